"""The package: its metadata, the one module, and what the tests need."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

setuptools.setup(
    name='aiodnsresolver',
    version='0.1.0',
    description='A DNS stub resolver for asyncio: no dependency, no thread, no task',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='MIT',
    python_requires='>=3.10',
    py_modules=['aiodnsresolver'],
    packages=['aiodnsresolver-stubs'],  # a single module cannot carry a py.typed (PEP 561)
    package_data={'aiodnsresolver-stubs': ['__init__.pyi']},
    keywords=['dns', 'resolver', 'asyncio', 'aiohttp', 'stub resolver'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Framework :: AsyncIO',
        'Intended Audience :: Developers',
        'License :: OSI Approved :: MIT License',
        'Operating System :: POSIX',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Internet :: Name Service (DNS)',
        'Topic :: Software Development :: Libraries :: Python Modules',
        'Typing :: Typed',
    ],
    extras_require={
        'benchmark': [
            'aiodns>=4.0',
            'async_dns>=2.0',
            'dnspython>=2.6',
            'matplotlib>=3.8',
            'pandas>=2.2',
            'uvloop>=0.19; platform_system != "Windows"',
        ],
        'test': [
            'aiohttp>=3.7',
            'coverage>=7.4',
            'dnspython>=2.6',
            'hypothesis>=6.100',
            'httpx>=0.27',
            'mypy>=1.18',
            'pyright>=1.1.405',
            'pytest>=8.4',
            'pytest-asyncio>=1.0',
            'pytest-timeout>=2.3',
            'ruff>=0.5',
            'tornado>=6.4',
            'uvloop>=0.19; platform_system != "Windows"',
        ],
    },
)
