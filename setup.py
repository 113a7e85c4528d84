import pathlib
import re

import setuptools

# On the package index the relative links of the README lead nowhere: of these the text stays.
readme = pathlib.Path(__file__).with_name('README.md').read_text(encoding='utf-8')
setuptools.setup(
    long_description=re.sub(r'!?\[([^]]*)\]\((?!https?:)[^)]*\)', r'\1', readme),
    long_description_content_type='text/markdown',
)
