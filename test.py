"""The tests, in the order of the module. What they share stands first: a clock that jumps, a scripted nameserver, and real ones."""

import ast
import asyncio
import contextlib
import copy
import decimal
import errno
import fractions
import functools
import gc
import inspect
import ipaddress
import itertools
import json
import logging
import math
import os
import pathlib
import pickle
import random
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
import unittest
import unittest.mock

import aiohttp
import aiohttp.web
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import httpx
import hypothesis
import hypothesis.stateful
import hypothesis.strategies as st
import pytest
import pytest_asyncio
import tornado.simple_httpclient

import aiodnsresolver as m
from aiodnsresolver import (
    QUESTION,
    RESPONSE,
    TYPES,
    IPv4AddressExpiresAt,
    IPv6AddressExpiresAt,
    Message,
    QuestionRecord,
    Resolver,
    ResourceRecord,
    mix_case,
    pack,
    parse,
    recvfrom,
)

HERE = pathlib.Path(__file__).parent

hypothesis.settings.register_profile('default', deadline=None, max_examples=100)
hypothesis.settings.load_profile('default')


# --- A clock that jumps -------------------------------------------------------------------------------------------------


class Clock:
    """Makes the time of a loop jump to its next timer whenever there is nothing to read: hours pass in milliseconds, sockets are real."""

    def __init__(self, loop):
        self.now = 1000.0
        self.busy = 0
        select = loop._selector.select

        def select_or_jump(timeout=None):
            events = select(0)
            if not events and timeout is None:
                return select(5)  # nothing will ever happen, unless a signal comes: the test hangs, and is to be seen to
            if not events:
                self.now += max(0, timeout)
            self.busy = self.busy + 1 if events else 0
            assert self.busy < 100_000, 'a socket stays readable, and nobody reads it'
            return events

        loop.time = lambda: self.now
        loop._selector.select = select_or_jump


@pytest.fixture
def is_real_time(request):
    return request.node.get_closest_marker('real_time') is not None


@pytest_asyncio.fixture
async def clock(is_real_time):
    return None if is_real_time else Clock(asyncio.get_running_loop())


@pytest.fixture
def servers():
    return []


@pytest_asyncio.fixture(autouse=True)
async def nothing_left(request, clock, servers):
    """Every test ends with the same checks: no task, reader, timer or socket is left behind, and no exception that nobody saw."""
    loop = asyncio.get_running_loop()
    unseen = []
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    readers, tasks, descriptors = readers_of(loop), asyncio.all_tasks(), descriptors_now()
    yield
    for server in servers:
        server.close()
    if inspect.iscoroutinefunction(request.function):
        gc.collect()
        if clock is not None:
            await asyncio.sleep(100)  # longer than any timeout in here
            assert readers_of(loop) == readers
            assert not [handle for handle in loop._scheduled if not handle.cancelled()]
            assert descriptors_now() <= descriptors  # fewer, where garbage of an earlier test had some
    assert asyncio.all_tasks() - tasks <= {asyncio.current_task()}
    assert not unseen


def readers_of(loop):
    return set(loop._selector.get_map()) if hasattr(loop, '_selector') else set()


def descriptors_now():
    return len(os.listdir('/proc/self/fd'))


# --- A scripted nameserver, whose wire format is dnspython's --------------------------------------------------------------


class Scripted:
    """Answers each query by the next of its replies, the last one again and again. A reply is a function of the query to what is sent:
    octets, a delay in seconds, a function to call with the server, or a sequence of these."""

    def __init__(self, address, replies):
        self.loop = asyncio.get_running_loop()
        self.replies = [*replies]
        self.queries = []  # (name, type, time, wire, address)
        family = socket.AF_INET6 if ':' in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sock.setblocking(False)
        self.sock.bind((address, 0))
        self.at = self.sock.getsockname()[:2]
        self.text = f'[{self.at[0]}]:{self.at[1]}' if ':' in address else f'{self.at[0]}:{self.at[1]}'
        self.loop.add_reader(self.sock.fileno(), self.read)

    def read(self):
        try:
            wire, address = self.sock.recvfrom(65535)
        except BlockingIOError:  # a test has read it already
            return
        query = dns.message.from_wire(wire)
        question = query.question[0]
        self.queries.append((question.name.to_text(omit_final_dot=True), int(question.rdtype), self.loop.time(), wire, address))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self.send(reply(query), address)

    def send(self, parts, address):
        if isinstance(parts, (bytes, float, int)) or callable(parts):
            parts = [parts]
        for i, part in enumerate(parts):
            if isinstance(part, (float, int)):
                self.loop.call_later(part, self.send, parts[i + 1 :], address)
                return
            if callable(part):
                part(self)
            elif self.sock.fileno() >= 0:
                self.sock.sendto(part, address)

    def close(self):
        if self.sock.fileno() >= 0:
            self.loop.remove_reader(self.sock.fileno())
            self.sock.close()

    @property
    def names(self):
        return [name.lower() for name, *_ in self.queries]


@pytest.fixture
def nameserver(clock, servers):
    """`nameserver(reply, …)` starts a scripted nameserver on loopback."""

    def start(*replies, address='127.0.0.1'):
        servers.append(Scripted(address, replies))
        return servers[-1]

    return start


def response(query, answer=(), authority=(), additional=(), rcode=0, flags=dns.flags.RA):
    message = dns.message.make_response(query)
    message.flags |= flags
    message.set_rcode(rcode)
    for section, texts in ((message.answer, answer), (message.authority, authority), (message.additional, additional)):
        for text in texts:
            name, ttl, rdclass, rdtype, *rdata = text.split()
            name = query.question[0].name if name == '?' else dns.name.from_text(name)
            section.append(dns.rrset.from_text(name, int(ttl), rdclass, rdtype, ' '.join(rdata)))
    return message


def reply(*answer, **sections):
    """A reply with records in the format of zone files, where ? is the name that was asked for."""
    return lambda query: response(query, answer, **sections).to_wire()


def a(*addresses, ttl=20):
    return reply(*(f'? {ttl} IN {"AAAA" if ":" in address else "A"} {address}' for address in addresses))


def alias(name, ttl=20):
    return reply(f'? {ttl} IN CNAME {name}.')


SOA = 'example.com. 30 IN SOA ns.example.com. admin.example.com. 1 2 3 4 20'
nxdomain = reply(authority=[SOA], rcode=3)
nodata = reply(authority=[SOA])
nodata_without_soa = reply()
servfail, refused, formerr, notimp = (reply(rcode=rcode) for rcode in (2, 5, 1, 4))
lame = reply(flags=0)
truncated_and_empty = reply(flags=dns.flags.RA | dns.flags.TC)


def silence(_):
    return []


def after(delay, then):
    return lambda query: [delay, then(query)]


def dies(_):
    return Scripted.close


def edited(edit):
    """A reply whose octets were changed."""
    return lambda query: edit(bytearray(a('192.0.2.66')(query)))


def set_octet(index, change):
    def edit(data):
        data[index] = change(data[index])
        return bytes(data)

    return edit


def question_in(change):
    """A reply to the question with other letters."""

    def make(query):
        other = dns.message.from_wire(query.to_wire())
        name = dns.name.from_text(change(query.question[0].name.to_text()))
        other.question = [dns.rrset.RRset(name, query.question[0].rdclass, query.question[0].rdtype)]
        return response(other, ['? 20 IN A 192.0.2.66']).to_wire()

    return make


wrong_case = question_in(str.swapcase)


def first_then(*replies):
    """Several replies to one query."""
    return lambda query: [reply(query) for reply in replies]


# --- Resolvers of the tests -----------------------------------------------------------------------------------------------


def rounds(*servers, timeout=0.5, times=5):
    """A get_nameservers that asks the servers one by one."""

    async def get_nameservers(_):
        for server in servers * times:
            yield timeout, server.at

    return get_nameservers


def sets(*given):
    async def get_nameservers(_):
        for one in given:
            yield one

    return get_nameservers


async def no_host(fqdn, qtype):
    return None


@pytest.fixture(params=['hook', 'file'])
def get_host(request, monkeypatch):
    """No host, by a hook and by a hosts file: what is kept is found by two ways."""
    if request.param == 'hook':
        return no_host
    monkeypatch.setattr(m, 'HOSTS', '/nonexistent/hosts')
    return None


def resolver_for(*servers, **options):
    return Resolver(**{'get_host': no_host, 'get_nameservers': rounds(*servers), **options})


def files(**contents):
    """Makes the module find files of these contents, in place of the system's: `files(hosts='…', resolv_conf='…')`."""

    def fake_open(path, mode):
        assert mode == 'r'
        text = contents.get(pathlib.Path(path).name.replace('.', '_'))
        if text is None:
            raise FileNotFoundError(errno.ENOENT, 'No such file', path)
        return contextlib.nullcontext(text.splitlines(keepends=True))

    return unittest.mock.patch('aiodnsresolver.open', side_effect=fake_open, create=True)


def texts(addresses):
    return [str(address) for address in addresses]


def now():
    return asyncio.get_running_loop().time()


def run(coroutine, loop_factory=asyncio.new_event_loop):
    loop = loop_factory()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


# --- Vocabulary, errors, values that expire -------------------------------------------------------------------------------


def test_the_types_are_usable_as_ints():
    assert {qtype.name: int(qtype) for qtype in TYPES} == {'A': 1, 'CNAME': 5, 'TXT': 16, 'AAAA': 28}
    assert (QUESTION, RESPONSE, TYPES.A + 1, {1: 'one'}[TYPES.A]) == (0, 1, 2, 'one')


@pytest.mark.parametrize(
    ('error', 'bases'),
    [
        (m.InvalidName, (m.ResolverError, ValueError)),
        (m.DoesNotExist, (m.ResolverError,)),
        (m.NameDoesNotExist, (m.DoesNotExist,)),
        (m.NoRecords, (m.DoesNotExist,)),
        (m.TemporaryResolverError, (m.ResolverError,)),
        (m.ResolverTimeout, (m.TemporaryResolverError, asyncio.TimeoutError)),
        (m.NameserverRefused, (m.TemporaryResolverError, ConnectionRefusedError)),
        (m.NameserverUnreachable, (m.TemporaryResolverError, OSError)),
        (m.ResponseCodeError, (m.TemporaryResolverError,)),
        (m.BadAddress, (m.ResolverError, ipaddress.AddressValueError)),
        (m.AliasChainTooLong, (m.ResolverError,)),
        (m.MalformedMessage, (m.ResolverError, ValueError)),
        (m.PointerLoop, (m.MalformedMessage,)),
    ],
)
def test_an_error_has_the_bases_that_the_contract_says_and_survives_pickle(error, bases):
    assert all(issubclass(error, base) for base in bases)
    assert not issubclass(error, m.TemporaryResolverError) or not issubclass(error, m.DoesNotExist)
    again = pickle.loads(pickle.dumps(error('some text')))
    assert (type(again), str(again)) == (error, 'some text')


@pytest.mark.parametrize(
    ('plain', 'value'),
    [
        (ipaddress.IPv4Address('192.0.2.1'), IPv4AddressExpiresAt('192.0.2.1', 12.5)),
        (ipaddress.IPv6Address('2001:db8::1'), IPv6AddressExpiresAt('2001:db8::1', 12.5)),
        (ipaddress.IPv6Address('fe80::1%lo'), IPv6AddressExpiresAt('fe80::1%lo', 12.5)),
    ],
)
def test_an_address_that_expires_is_otherwise_like_any_other(plain, value):
    assert isinstance(value, type(plain))
    assert (value, str(value), f'{value:#x}', hash(value)) == (plain, str(plain), f'{plain:#x}', hash(plain))
    assert sorted([value + 1, value]) == [plain, value + 1]
    assert (value + 1, value - 1, (value + 1).expires_at, (value - 1).expires_at) == (plain + 1, plain - 1, 12.5, 12.5)
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert (type(again), again, again.expires_at) == (type(value), plain, 12.5)


def test_bytes_that_expire_are_otherwise_like_any_other():
    value = m.BytesExpiresAt(b'some', 12.5)
    assert (value, hash(value), value + b'thing', sorted([value, b'a'])) == (b'some', hash(b'some'), b'something', [b'a', b'some'])
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert (type(again), again, again.expires_at) == (m.BytesExpiresAt, b'some', 12.5)


# --- Names ------------------------------------------------------------------------------------------------------------------

L63 = 'a' * 63


@pytest.mark.parametrize(
    ('name', 'fqdn'),
    [
        ('www.example.com', b'www.example.com'),
        ('WWW.Example.COM', b'www.example.com'),
        ('www.example.com.', b'www.example.com'),
        ('_dmarc.a-b.example', b'_dmarc.a-b.example'),
        ('*.example', b'*.example'),
        ('bücher.example', b'xn--bcher-kva.example'),  # RFC 3490 §4
        ('BÜCHER.example.', b'xn--bcher-kva.example'),
        ('bücher。example', b'xn--bcher-kva.example'),  # RFC 3490 §3.1
        ('www。example。com。', b'www.example.com'),
        ('xn--bcher-kva.example', b'xn--bcher-kva.example'),
        (f'{L63}.example', f'{L63}.example'.encode()),  # RFC 1035 §2.3.4
        ('.'.join([L63, L63, L63, 'b' * 61]), '.'.join([L63, L63, L63, 'b' * 61]).encode()),
        ('.'.join([L63, L63, L63, 'b' * 61, '']), '.'.join([L63, L63, L63, 'b' * 61]).encode()),
    ],
)
def test_a_name_as_it_goes_into_queries(name, fqdn):
    assert m.to_fqdn(name) == fqdn


@pytest.mark.parametrize(
    ('name', 'says'),
    [
        ('', 'the name is empty'),
        ('.', 'empty label'),
        ('..', 'empty label'),
        ('.example', 'empty label'),
        ('www..example', 'empty label'),
        ('example..', 'empty label'),
        ('a' * 64 + '.example', '64 octets'),
        ('ü' * 64 + '.example', 'cannot be written in ASCII'),
        ('ü' * 300 + '.example', 'one of its labels has 300 letters'),
        (''.join(map(chr, range(0x4E00, 0x4E00 + 5000))), 'it has 5000 letters'),  # for which the codec takes seconds
        ('.'.join([L63, L63, L63, 'b' * 62]), '254 octets, and 253 is the most'),
        ('.'.join([L63, L63, L63, 'b' * 62, '']), '254 octets, and 253 is the most'),
        ('www example.com', 'a space'),
        ('www\t.example', 'a space'),
        ('www.example\n', 'a space'),
        ('www.\0.example', 'a space'),
        ('www.\x7f.example', 'a space'),
        ('ü ü.example', 'a space'),
        ('a\u2488b.example', 'a space'),  # one character that the codec makes two of, the second a dot
        ('\u00ad.example', 'cannot be written in ASCII'),
        ('\ud800.example', 'cannot be written in ASCII'),
        ('\u0627a.example', 'cannot be written in ASCII'),
    ],
)
async def test_a_name_that_cannot_be_is_refused_and_nothing_is_sent(nameserver, name, says):
    with pytest.raises(m.InvalidName, match=re.escape(says)):
        m.to_fqdn(name)
    server = nameserver(a('192.0.2.1'))
    resolve, _ = resolver_for(server)
    with pytest.raises(m.InvalidName, match=re.escape(says)) as caught:
        await resolve(name, TYPES.A)
    assert not isinstance(caught.value, UnicodeError)
    assert isinstance(caught.value.__cause__, UnicodeError) == ('ASCII' in says)
    assert server.queries == []


@pytest.mark.parametrize(
    ('name', 'search', 'ndots', 'expected'),
    [
        ('db', (), 1, 'db'),
        ('db', ('a.example', 'b.example'), 1, 'db.a.example db.b.example db'),
        ('db.c', ('a.example', 'b.example'), 1, 'db.c db.c.a.example db.c.b.example'),
        ('db.c', ('a.example',), 2, 'db.c.a.example db.c'),
        ('db', ('a.example',), 0, 'db db.a.example'),
        ('a.b.c.d.e', ('s.example',), 5, 'a.b.c.d.e.s.example a.b.c.d.e'),
        ('a.b.c.d.e.f', ('s.example',), 5, 'a.b.c.d.e.f a.b.c.d.e.f.s.example'),
        ('db.', ('a.example',), 1, 'db'),
        ('db。', ('a.example',), 1, 'db'),
        ('localhost', ('a.example',), 1, 'localhost'),
        ('x.localhost', ('a.example',), 5, 'x.localhost'),
        ('x.onion', ('a.example',), 5, 'x.onion'),
        ('x.invalid', ('a.example',), 5, 'x.invalid'),
        ('x.local', ('a.example',), 1, 'x.local x.local.a.example'),
        (f'{L63}.{L63}.{L63}.aaa', ('b' * 56, 'b' * 57, 'b' * 58), 0, f'{L63}.{L63}.{L63}.aaa {L63}.{L63}.{L63}.aaa.{"b" * 57}'),
        ('1.2.3', ('a.example',), 2, '1.2.3 1.2.3.a.example'),
    ],
)
def test_the_candidates_of_a_search_list(name, search, ndots, expected):  # resolv.conf(5)
    as_given, found = m.candidates(name, tuple(domain.encode() for domain in search), ndots)
    assert as_given == m.to_fqdn(name)
    if len(name) > 100:
        assert [len(fqdn) for fqdn in found] == [195, 252, 253]
    else:
        assert b' '.join(found).decode() == expected


@pytest.mark.parametrize(
    ('data', 'start', 'expected'),
    [
        (b'\0', 0, (b'', 1)),
        (b'\1a\2bc\0x', 0, (b'a.bc', 6)),
        (b'\3com\0\1a\xc0\0x', 5, (b'a.com', 9)),
        (b'\3com\0\xc0\0\xc0\5', 7, (b'com', 9)),  # a pointer to a pointer
        (b'\1A\0', 0, (b'A', 3)),
        (b'\3a b\1\xff\0', 0, (b'a b.\xff', 7)),
        (b'\x3f' + b'a' * 63 + b'\0', 0, (b'a' * 63, 65)),
    ],
)
def test_a_name_is_unpacked(data, start, expected):  # RFC 1035 §4.1.4
    assert m.unpack_name(data, start, {}) == expected


def test_a_name_of_just_the_greatest_length_is_unpacked_with_a_pointer_and_without():
    label, last = b'\x3f' + b'a' * 63, b'\x3d' + b'a' * 61
    name = b'.'.join([b'a' * 63] * 3 + [b'a' * 61])
    assert m.unpack_name(label * 3 + last + b'\0', 0, {}) == (name, 255)
    assert m.unpack_name(label + last + b'\0' + label * 2 + b'\xc0\0', 127, {}) == (name, 257)


def test_a_pointer_to_the_root_adds_nothing_to_a_name():
    data, known = b'\0\xc0\0\1a\xc0\0', {}
    assert m.unpack_name(data, 1, known) == (b'', 3)
    assert m.unpack_name(data, 3, known) == (b'a', 7)


def test_a_name_that_is_too_long_only_with_what_its_pointer_leads_to_is_malformed():
    label = b'\x3f' + b'a' * 63
    data, known = label * 2 + b'\0' + label * 2 + b'\xc0\0', {}
    with pytest.raises(m.MalformedMessage, match='longer than 255'):
        m.unpack_name(data, 129, known)
    assert m.unpack_name(data, 129 + 64, known)[0] == b'.'.join([b'a' * 63] * 3)
    with pytest.raises(m.MalformedMessage, match='longer than 255'):
        m.unpack_name(data, 129, known)


@pytest.mark.parametrize(
    ('data', 'start', 'error', 'says'),
    [
        (b'', 0, m.MalformedMessage, 'after the last octet'),
        (b'\1a', 0, m.MalformedMessage, 'after the last octet'),
        (b'\3ab', 0, m.MalformedMessage, 'cut off'),
        (b'\3a.b\0', 0, m.MalformedMessage, 'holds a dot'),
        (b'\xc0', 0, m.MalformedMessage, 'pointer at octet 0 is cut off'),
        (b'\x40a\0', 0, m.MalformedMessage, 'reserved type'),
        (b'\x80a\0', 0, m.MalformedMessage, 'reserved type'),
        (b'\xc0\0', 0, m.PointerLoop, 'to octet 0'),
        (b'\1a\xc0\0', 0, m.PointerLoop, 'to octet 0'),
        (b'\1a\xc0\2', 0, m.PointerLoop, 'to octet 2'),
        (b'\xc0\2\1a\0', 0, m.PointerLoop, 'to octet 2'),
        (b'\1a\xc0\4\xc0\0', 4, m.PointerLoop, 'to octet 4'),
        ((b'\x3f' + b'a' * 63) * 4 + b'\0', 0, m.MalformedMessage, 'longer than 255'),
        (b'\x3f' + b'a' * 63 + (b'\x3f' + b'a' * 63) * 2 + b'\x3e' + b'a' * 62 + b'\0', 0, m.MalformedMessage, 'longer than 255'),
    ],
)
def test_a_name_that_is_malformed_is_told_where(data, start, error, says):
    with pytest.raises(error, match=says):
        m.unpack_name(data, start, {})


HEADER = b'\1\2\0\0'  # ID, and flags


def seconds_to_parse(octets, links):
    """The time for a message with a name of 126 labels, and records whose own names are pointers into it, to each of the links in turn."""
    count = octets // 12
    targets = [(0xC000 | (12 + 2 * link)).to_bytes(2, 'big') for link in links]
    records_ = [targets[i % len(targets)] + b'\0\1\0\1' + bytes(6) for i in range(count)]
    data = HEADER + b'\0\1' + count.to_bytes(2, 'big') + bytes(4) + b'\1a' * 126 + b'\0' + b'\0\1\0\1' + b''.join(records_)
    times = []
    for _ in range(5):
        started = time.process_time()
        assert len(parse(data).an) == count
        times.append(time.process_time() - started)
    return min(times)


def test_the_work_on_a_message_is_linear_in_its_length_wherever_its_pointers_lead():
    hostile = seconds_to_parse(60_000, range(126))
    assert hostile < 4 * seconds_to_parse(60_000, [125])  # names of one label, again and again
    assert hostile < 16 * seconds_to_parse(7_500, range(126))


# --- Messages ---------------------------------------------------------------------------------------------------------------

labels = st.binary(min_size=1, max_size=63).map(lambda label: label.replace(b'.', b'-'))
names = st.lists(labels, max_size=5).map(b'.'.join).filter(lambda name: len(name) <= 253)
u16 = st.integers(0, 0xFFFF)
questions = st.builds(QuestionRecord, names, u16, u16)
records = st.one_of(
    st.builds(
        ResourceRecord, names, u16.filter(lambda qtype: qtype != TYPES.CNAME), u16, st.integers(0, 2**32 - 1), st.binary(max_size=40)
    ),
    st.builds(ResourceRecord, names, st.just(5), u16, st.integers(0, 2**32 - 1), names),
)
bit = st.integers(0, 1)
sections = [st.lists(of, max_size=3).map(tuple) for of in (questions, records, records, records)]
messages = st.builds(Message, u16, bit, st.integers(0, 15), bit, bit, bit, bit, st.integers(0, 7), st.integers(0, 15), *sections)


@hypothesis.given(messages)
def test_what_is_packed_is_parsed_as_it_was(message):
    assert parse(pack(message)) == message
    assert parse(pack(message) + b'and more') == message


@hypothesis.given(messages)
def test_dnspython_reads_what_is_packed(message):
    wire = pack(message._replace(opcode=0, an=(), ns=(), ar=(), qd=message.qd[:1], rcode=message.rcode % 6))
    theirs = dns.message.from_wire(wire)
    assert theirs.id == message.qid
    assert bool(theirs.flags & dns.flags.TC) == bool(message.tc)
    assert [b'.'.join(rrset.name.labels[:-1]) for rrset in theirs.question] == [question.name for question in message.qd[:1]]


@hypothesis.given(st.binary(max_size=600))
@hypothesis.example(b'')
@hypothesis.example(b'\0' * 12)
def test_any_octets_parse_or_are_malformed(data):
    with contextlib.suppress(m.MalformedMessage):
        parse(data)


@hypothesis.given(messages.map(pack), st.data())
def test_a_message_with_any_damage_parses_or_is_malformed(data, draw):
    for _ in range(draw.draw(st.integers(1, 5))):
        at = draw.draw(st.integers(0, len(data) - 1))
        data = draw.draw(st.sampled_from([data[:at], data[:at] + draw.draw(st.binary(min_size=1, max_size=2)) + data[at + 1 :]])) or b'\0'
    with contextlib.suppress(m.MalformedMessage):
        assert parse(pack(parse(data))) == parse(data)


EXAMPLE = b'\7example\3com\0'


@pytest.mark.parametrize(
    ('data', 'says'),
    [
        (b'', '0 octets'),
        (HEADER + b'\0' * 7, '11 octets'),
        (HEADER + b'\0\1\0\0\0\0\0\0', 'after the last octet'),
        (HEADER + b'\xff\xff\0\0\0\0\0\0' + EXAMPLE + b'\0\1\0\1', 'after the last octet'),
        (HEADER + b'\0\1\0\0\0\0\0\0' + EXAMPLE + b'\0\1\0', 'question'),
        (HEADER + b'\0\0\0\1\0\0\0\0' + EXAMPLE + b'\0\1\0\1\0\0\0\0\0', 'record'),
        (HEADER + b'\0\0\0\1\0\0\0\0' + EXAMPLE + b'\0\1\0\1\0\0\0\0\0\5abcd', 'cut off'),
        (HEADER + b'\0\0\0\1\0\0\0\0' + EXAMPLE + b'\0\5\0\1\0\0\0\0\0\4\1a\0b', 'ends at 38, not at 39'),
        (HEADER + b'\0\0\0\1\0\0\0\0' + EXAMPLE + b'\0\5\0\1\0\0\0\0\0\2\1a\0', 'ends at 38, not at 37'),
        (HEADER + b'\0\0\0\0\0\0\0\1' + b'\x40', 'reserved'),
    ],
)
def test_a_message_that_is_malformed_is_told_why(data, says):
    with pytest.raises(m.MalformedMessage, match=says):
        parse(data)


def test_parse_reads_what_dnspython_writes_with_compression():
    query = dns.message.make_query('www.example.com', 'A', id=77)
    wire = response(
        query, ['? 20 IN CNAME b.example.com.', 'b.example.com. 30 IN A 192.0.2.1', 'b.example.com. 30 IN TXT "x"'], [SOA]
    ).to_wire()
    parsed = parse(wire)
    assert (parsed.qid, parsed.qr, parsed.rd, parsed.ra) == (77, RESPONSE, 1, 1)
    assert parsed.qd == (QuestionRecord(b'www.example.com', 1, 1),)
    assert parsed.an == (
        ResourceRecord(b'www.example.com', 5, 1, 20, b'b.example.com'),
        ResourceRecord(b'b.example.com', 1, 1, 30, bytes([192, 0, 2, 1])),
        ResourceRecord(b'b.example.com', 16, 1, 30, b'\1x'),
    )
    assert parsed.ns[0][:4] == (b'example.com', 6, 1, 30)


MESSAGE = Message(1, QUESTION, 0, 0, 0, 1, 0, 0, 0, (QuestionRecord(b'example.com', TYPES.A, 1),), (), (), ())


@pytest.mark.parametrize(
    ('message', 'error'),
    [
        (MESSAGE._replace(qid=65536), ValueError),
        (MESSAGE._replace(qr=2), ValueError),
        (MESSAGE._replace(rcode=16), ValueError),
        (MESSAGE._replace(opcode=-1), ValueError),
        (MESSAGE._replace(z=8), ValueError),
        (MESSAGE._replace(qd=(QuestionRecord(b'a..b', 1, 1),)), m.InvalidName),
        (MESSAGE._replace(qd=(QuestionRecord(b'a' * 64, 1, 1),)), m.InvalidName),
        (MESSAGE._replace(qd=(QuestionRecord(b'.'.join([b'a' * 63] * 4), 1, 1),)), m.InvalidName),
        (MESSAGE._replace(an=(ResourceRecord(b'a', 1, 1, 0, b'x' * 65536),)), ValueError),
    ],
)
def test_what_does_not_fit_in_a_message_is_refused(message, error):
    with pytest.raises(
        error,
        match=r'is no name: one of its labels has (0|64) octets|is no name: it has 255 octets|does not fit in \d bits of the header|does not fit in its field',
    ):
        pack(message)


def test_a_name_of_any_octets_can_be_shown():
    assert m.name_to_text(b'\xffa.example') == r'\255a.example'


def test_the_name_of_each_pointer_is_known_by_its_two_octets():
    data, known = b'\1a\0\1b\xc0\0\1c\xc0\3\xc0\3', {}
    assert m.unpack_name(data, 7, known) == (b'c.b.a', 11)
    assert known == {b'\xc0\3': b'b.a', b'\xc0\0': b'a'}
    assert m.unpack_name(data, 11, known) == (b'b.a', 13)


# --- Questions and answers ----------------------------------------------------------------------------------------------------

QUERY = dns.message.make_query('wWw.exAmple.com', 'A', id=0x4142)
WWW = m.Question(b'www.example.com', TYPES.A)


def read(data, question=WWW, query=QUERY):
    return m.read_reply(question, query.to_wire(), data, 100.0)


def wire(*answer, **sections_):
    return reply(*answer, **sections_)(QUERY)


@pytest.mark.parametrize(
    'data',
    [
        b'',
        b'\x41',
        wire('? 20 IN A 192.0.2.1')[:11],
        wire('? 20 IN A 192.0.2.1')[:12],
        wire('? 20 IN A 192.0.2.1')[:30],
        wire('? 20 IN A 192.0.2.1')[:-1],  # does not parse
        wire(authority=[SOA], rcode=3)[:-1],
        QUERY.to_wire(),  # QR
        edited(set_octet(0, lambda o: o ^ 1))(QUERY),  # ID
        edited(set_octet(1, lambda o: o ^ 1))(QUERY),
        edited(set_octet(2, lambda o: o | 0x08))(QUERY),  # opcode
        edited(set_octet(2, lambda o: o | 0x40))(QUERY),
        edited(set_octet(5, lambda _: 0))(QUERY),  # no question
        edited(set_octet(5, lambda _: 2))(QUERY),  # two questions
        edited(set_octet(4, lambda _: 1))(QUERY),
        edited(set_octet(30, lambda o: o ^ 29))(QUERY),  # another type
        edited(set_octet(32, lambda o: o ^ 2))(QUERY),  # another class
        wrong_case(QUERY),
        question_in(lambda name: 'x' + name[1:])(QUERY),
        question_in(lambda name: 'x' + name)(QUERY),
    ],
)
def test_what_is_not_the_reply_is_ignored(data):  # RFC 5452 §9.1
    assert read(wire('? 20 IN A 192.0.2.1')) is not None
    assert read(data) is None


A1 = '? 20 IN A 192.0.2.1'


@pytest.mark.parametrize(
    ('data', 'addresses', 'expires_at', 'aliases'),
    [
        (wire(A1), '192.0.2.1', 120, ''),
        (wire(A1, authority=[SOA], additional=['x.example. 1 IN A 192.0.2.9']), '192.0.2.1', 120, ''),
        (wire(A1, '? 30 IN A 192.0.2.2'), '192.0.2.1 192.0.2.2', 120, ''),
        (wire('WWW.EXAMPLE.COM. 20 IN A 192.0.2.1'), '192.0.2.1', 120, ''),
        (wire('? 0 IN A 192.0.2.1'), '192.0.2.1', 100, ''),
        (wire(A1, flags=dns.flags.TC), '192.0.2.1', 120, ''),  # usable records are used
        (wire(A1, 'other.example. 1 IN A 192.0.2.66'), '192.0.2.1', 120, ''),  # another owner
        (wire(A1, '? 1 IN AAAA 2001:db8::1', '? 1 IN TXT x'), '192.0.2.1', 120, ''),  # another type
        (wire(A1, '? 1 CH TXT x'), '192.0.2.1', 120, ''),  # another class
        (wire('? 9 IN CNAME b.example.', 'b.example. 20 IN A 192.0.2.1'), '192.0.2.1', 109, 'b.example'),
        (wire('b.example. 20 IN A 192.0.2.1', '? 50 IN CNAME B.example.'), '192.0.2.1', 120, 'b.example'),
        (wire('? 50 IN CNAME b.example.', 'b.example. 7 IN CNAME c.example.', 'c.example. 9 IN A 192.0.2.1'), '192.0.2.1', 107, 'b.example c.example'),
        (wire(A1, '? 1 IN CNAME b.example.'), '192.0.2.1', 120, ''),
        (wire('? 9 IN CNAME b.example.', flags=0), '', 109, 'b.example'),
        (wire('? 9 IN CNAME b.example.', authority=[SOA], flags=dns.flags.TC), '', 109, 'b.example'),
        (wire('? 9 IN CNAME b.example.', 'c.example. 20 IN A 192.0.2.66'), '', 109, 'b.example'),
        (wire('? 604801 IN A 192.0.2.1'), '192.0.2.1', 100 + 604800, ''),
        (wire('? 2147483647 IN A 192.0.2.1'), '192.0.2.1', 100 + 604800, ''),
        (wire(A1).replace(b'\0\0\0\x14', b'\x80\0\0\0'), '192.0.2.1', 100, ''),  # RFC 2181 §8
        (wire(A1).replace(b'\0\0\0\x14', b'\xff\xff\xff\xff'), '192.0.2.1', 100, ''),
    ],
)  # fmt: skip
def test_a_reply_with_records_is_read(data, addresses, expires_at, aliases):
    answer = read(data)
    assert (' '.join(texts(answer.records)), answer.expires_at, b' '.join(answer.aliases).decode()) == (addresses, expires_at, aliases)
    assert answer.negative is None
    assert all(record.expires_at >= expires_at for record in answer.records)


def test_each_record_keeps_its_own_expiry_but_no_more_than_its_alias():
    assert [record.expires_at for record in read(wire(A1, '? 30 IN A 192.0.2.2')).records] == [120, 130]
    chain = read(wire('? 25 IN CNAME b.example.', 'b.example. 20 IN A 192.0.2.1', 'b.example. 30 IN A 192.0.2.2'))
    assert [record.expires_at for record in chain.records] == [120, 125]
    assert [record.expires_at for record in read(wire('? 5 IN CNAME b.example.', 'b.example. 20 IN A 192.0.2.1')).records] == [105]


SOA_TTL_300 = SOA.replace(' 30 ', ' 300 ').replace('3 4 20', '3 4 300')


@pytest.mark.parametrize(
    ('data', 'missing', 'expires_at'),
    [
        (wire(authority=[SOA], rcode=3), m.NameDoesNotExist, 120),  # the MINIMUM, RFC 2308 §5
        (wire(authority=[SOA.replace(' 30 ', ' 10 ')], rcode=3), m.NameDoesNotExist, 110),  # the TTL
        (wire(authority=[SOA_TTL_300], rcode=3), m.NameDoesNotExist, 160),
        (wire(authority=['example.com. 30 IN NS ns.example.'], rcode=3), m.NameDoesNotExist, 100),
        (wire(authority=[SOA], rcode=3, flags=dns.flags.TC), m.NameDoesNotExist, 100),
        (wire(A1, rcode=3), m.NameDoesNotExist, 100),
        (wire('? 5 IN CNAME b.example.', authority=[SOA], rcode=3), m.NameDoesNotExist, 105),  # RFC 2308 §2.1
        (wire(authority=[SOA]), m.NoRecords, 120),
        (wire(authority=[SOA], flags=0), m.NoRecords, 120),
        (wire(authority=[SOA.replace('example.com.', 'elsewhere.', 1)]), m.NoRecords, 120),
        (wire(), m.NoRecords, 100),
        (wire(flags=dns.flags.AA), m.NoRecords, 100),
        (wire('? 20 IN AAAA 2001:db8::1'), m.NoRecords, 100),
        (wire('other.example. 1 IN A 192.0.2.66', authority=[SOA]), m.NoRecords, 120),
        (wire(additional=[A1]), m.NoRecords, 100),
        (wire(authority=[A1]), m.NoRecords, 100),
        (wire('? 5 IN CNAME b.example.', authority=[SOA]), m.NoRecords, 105),
        (wire('? 50 IN CNAME b.example.', authority=[SOA]), m.NoRecords, 120),
        (wire(authority=[SOA]).replace(b'\0\0\0\x1e', b'\x80\0\0\x1e'), m.NoRecords, 100),
        (wire(authority=[SOA]).replace(b'\0\0\0\x14', b'\x80\0\0\x14').replace(b'\0\0\0\x1e', b'\x80\0\0\x1e'), m.NoRecords, 100),
    ],
)
def test_a_reply_without_records_is_read(data, missing, expires_at):  # RFC 2308
    answer = read(data)
    assert (answer.records, answer.negative, answer.expires_at) == ((), missing, expires_at)


@pytest.mark.parametrize(
    ('data', 'error', 'says'),
    [
        (wire(rcode=1), m.ResponseCodeError, 'answered FORMERR'),
        (wire(rcode=2), m.ResponseCodeError, 'answered SERVFAIL'),
        (wire(A1, rcode=2), m.ResponseCodeError, 'answered SERVFAIL'),
        (wire(rcode=4), m.ResponseCodeError, 'answered NOTIMP'),
        (wire(rcode=5), m.ResponseCodeError, 'answered REFUSED'),
        (wire(rcode=6), m.ResponseCodeError, 'answered rcode 6'),
        (wire(rcode=15), m.ResponseCodeError, 'answered rcode 15'),
        (wire(flags=0), m.TemporaryResolverError, 'lame'),
        (wire(authority=['com. 9 IN NS a.example.'], flags=0), m.TemporaryResolverError, 'lame'),
        (wire(flags=dns.flags.TC | dns.flags.RA), m.TemporaryResolverError, 'truncated'),
        (wire(authority=[SOA], flags=dns.flags.TC | dns.flags.RA), m.TemporaryResolverError, 'truncated'),
        (wire(A1)[:-5] + b'\3' + wire(A1)[-4:-1], m.BadAddress, '3 octets, where an address has 4'),
        (wire('? 5 IN CNAME b.example.', 'b.example. 1 IN A 192.0.2.1')[:-5] + b'\3' + b'abc', m.BadAddress, 'b.example'),
        (wire(A1, '? 5 IN A 192.0.2.2')[:-5] + b'\3' + b'abc', m.BadAddress, '3 octets'),
        (wire('? 5 IN CNAME www.example.com.'), m.AliasChainTooLong, 'loop of aliases: www.example.com → www.example.com'),
        (wire('? 5 IN CNAME b.example.', 'b.example. 5 IN CNAME www.EXAMPLE.com.'), m.AliasChainTooLong, 'loop'),
        (wire('? 5 IN CNAME n0.example.', *(f'n{i}.example. 5 IN CNAME n{i + 1}.example.' for i in range(16))), m.AliasChainTooLong, 'more than 16'),
    ],
)  # fmt: skip
def test_a_reply_of_no_use_is_told_why(data, error, says):
    failure = read(data)
    assert failure.error is error
    assert says in failure.what
    assert failure.rcode == data[3] & 15


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda data: data, True),
        (lambda data: data.swapcase()[:12] + data[12:], False),  # another header
        (lambda data: data.replace(b'EXAMPLE', b'ANOTHER'), False),
        (lambda data: data[:12] + data[12:].swapcase(), False),  # that of the query: then it is the reply
        (lambda data: data[:20], False),
    ],
)
def test_a_reply_in_another_case_is_told_from_others(change, expected):
    query = b'ab\x01\0\0\1\0\0\0\0\0\0\7example\0\0\1\0\1'
    data = b'ab\x81\x80\0\1\0\1\0\0\0\0\7EXAMPLE\0\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\5\0\4\1\2\3\4'
    assert m.is_reply_in_another_case(query, change(data)) == expected


def test_sixteen_aliases_in_one_reply_are_followed():
    chain = [
        '? 5 IN CNAME n0.example.',
        *(f'n{i}.example. 5 IN CNAME n{i + 1}.example.' for i in range(15)),
        'n15.example. 5 IN A 192.0.2.1',
    ]
    answer = read(wire(*chain))
    assert (texts(answer.records), len(answer.aliases)) == (['192.0.2.1'], 16)


@pytest.mark.parametrize(
    ('qtype', 'record', 'expected'),
    [
        (TYPES.AAAA, 'AAAA 2001:db8::1', ipaddress.ip_address('2001:db8::1')),
        (TYPES.TXT, 'TXT "some" "thing"', b'something'),
        (TYPES.TXT, 'TXT ""', b''),
        (TYPES.CNAME, 'CNAME Other.example.', b'other.example'),
    ],
)
def test_records_of_the_other_types_are_read(qtype, record, expected):
    query = dns.message.make_query('www.example.com', qtype.name)
    question = m.Question(b'www.example.com', qtype)
    (found,) = m.read_reply(question, query.to_wire(), reply(f'? 20 IN {record}')(query), 100.0).records
    assert (found, found.expires_at) == (expected, 120)


def test_a_text_that_is_cut_off_makes_its_reply_malformed():
    query = dns.message.make_query('www.example.com', 'TXT')
    data = reply('? 20 IN TXT "some"')(query)
    assert m.read_reply(m.Question(b'www.example.com', TYPES.TXT), query.to_wire(), data.replace(b'\4some', b'\5some'), 100.0) is None


def verdict(question, query, data):
    return m.read_reply(question, query.to_wire(), data, 100.0)


@pytest.mark.parametrize('transform', [lambda _: b'evil.example', lambda name: name.decode(), lambda name: name + b'.'])
async def test_a_transform_fqdn_that_changes_more_than_case_is_an_error_that_says_so(nameserver, transform):
    server = nameserver(a('192.0.2.1'))
    resolve, _ = resolver_for(server, transform_fqdn=transform)
    with pytest.raises(m.ResolverError, match='transform_fqdn may change the case of letters alone'):
        await resolve('www.example.com', TYPES.A)
    assert server.queries == []


# --- 0x20 ---------------------------------------------------------------------------------------------------------------------


@hypothesis.given(names)
def test_mixing_changes_letters_and_nothing_but_their_case(name):
    mixed = mix_case(name)
    assert mixed.lower() == name.lower()
    assert len(mixed) == len(name)


def test_each_letter_is_mixed_evenly_and_on_its_own():
    drawn = [mix_case(b'aZ-5.aZ') for _ in range(4000)]
    assert {name[2:5] for name in drawn} == {b'-5.'}
    counts = [sum(name[i : i + 1].isupper() for name in drawn) for i in (0, 1, 5, 6)]
    assert all(1750 < count < 2250 for count in counts)
    assert len({bytes(name[i] for i in (0, 1, 5, 6)) for name in drawn}) == 16


LOOPS = [asyncio.new_event_loop]
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS.append(uvloop.new_event_loop)
    run(asyncio.sleep(0), uvloop.new_event_loop)  # the first loop opens what uvloop keeps open as long as the process lives


# --- The system's files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('lines', 'expected'),
    [
        ([], {}),
        (['nameserver 192.0.2.1\n'], {'nameservers': ['192.0.2.1:53']}),
        (['nameserver 192.0.2.1 # office\n', 'nameserver\t2001:db8::1\r\n'], {'nameservers': ['192.0.2.1:53', '[2001:db8::1]:53']}),
        (['nameserver fe80::1%lo\n'], {'nameservers': ['[fe80::1%lo]:53']}),
        ([f'nameserver 192.0.2.{i}' for i in range(9)], {'nameservers': [f'192.0.2.{i}:53' for i in range(9)]}),
        (['nameserver dns.example\n', 'nameserver\n', 'nameserver 1.2.3\n', 'nonsense\n', '\n', ' '], {}),
        (['nameserver 192.0.2.1.', 'nameserver fe80::1%\xb2', 'nameserver fe80::1%a\0b', 'nameserver fe80::1%9999999999'], {}),
        (['# nameserver 192.0.2.1', ';nameserver 192.0.2.1', '  nameserver 192.0.2.2;x'], {'nameservers': ['192.0.2.2:53']}),
        (['\ufeffnameserver 192.0.2.1'], {'nameservers': ['192.0.2.1:53']}),
        (['ï»¿nameserver 192.0.2.1'], {'nameservers': ['192.0.2.1:53']}),
        (['search A.example b.example.\n'], {'search': (b'a.example', b'b.example')}),
        (['domain a.example b.example\n'], {'search': (b'a.example',)}),
        (['search a.example\n', 'domain b.example\n'], {'search': (b'b.example',)}),
        (['domain a.example\n', 'search b.example\n'], {'search': (b'b.example',)}),
        (['search . a..b c.example\n'], {'search': (b'c.example',)}),
        (['search a.example b.example A.example.\n'], {'search': (b'a.example', b'b.example')}),
        (['search\n'], {'search': ()}),
        (['search a.example\n', 'search\n', 'search a..b\n', 'domain'], {'search': (b'a.example',)}),
        (['search a.example\n', 'search .\n'], {'search': ()}),
        (['options ndots:5 timeout:3 attempts:2 rotate no-reload randomize-case:0\n'],
         {'ndots': 5, 'timeout': 3, 'attempts': 2, 'rotate': True, 'reload': False, 'randomize_case': False}),
        (['options ndots:99 timeout:0\n', 'options attempts:99\n'], {'ndots': 15, 'timeout': 1, 'attempts': 5}),
        (['options timeout:99 attempts:0 ndots:0'], {'timeout': 30, 'attempts': 1, 'ndots': 0}),
        (['options ndots:00000000005 timeout:000'], {'ndots': 5, 'timeout': 1}),
        (['options ndots: timeout:x attempts:-1 ndots:² edns0 randomize-case:1 trust-ad timeout:1e9'], {}),
        (['options timeout:' + '9' * 10000], {'timeout': 30}),
    ],
)  # fmt: skip
def test_resolv_conf_is_parsed(lines, expected):  # resolv.conf(5)
    conf = m.parse_resolv_conf(lines)
    nameservers = list(map(str, conf.nameservers))
    assert conf._replace(nameservers=nameservers) == m.ResolvConf(**{'nameservers': ['127.0.0.1:53']} | expected)


def test_without_a_resolv_conf_there_is_the_nameserver_of_this_machine():
    assert m.parse_resolv_conf([]) == ((m.to_nameserver('127.0.0.1', 53),), (), 1, 0.5, 5, False, True, True)


@pytest.mark.parametrize(
    ('lines', 'name', 'expected'),
    [
        (['192.0.2.1 www.example.com'], 'www.example.com', '192.0.2.1'),
        (['192.0.2.1 WWW.example.com'], 'www.EXAMPLE.com', '192.0.2.1'),
        (['192.0.2.1 a b\tc # d'], 'c', '192.0.2.1'),
        (['192.0.2.1 a b # d'], 'd', None),
        (['192.0.2.1 a#b'], 'a', '192.0.2.1'),
        (['# 192.0.2.1 a'], 'a', None),
        (['192.0.2.1\ta\r\n', '192.0.2.2 b a\r\n', '2001:db8::1 a'], 'a', '192.0.2.1 192.0.2.2'),
        (['192.0.2.1 a.'], 'a', '192.0.2.1'),
        (['\ufeff192.0.2.1 a'], 'a', '192.0.2.1'),
        (['nonsense a', '192.0.2 a', '192.0.2.7', '', '192.0.2.1 a'], 'a', '192.0.2.1'),
        (['192.0.2.1 a..b a'], 'a', '192.0.2.1'),
        (['192.0.2.1 a a', '192.0.2.1 a'], 'a', '192.0.2.1'),
        (['192.0.2.9. a', '192.0.2.1 a'], 'a', '192.0.2.1'),
        (['192.0.2.1 bücher.example'], 'xn--bcher-kva.example', '192.0.2.1'),
        (['2001:db8::1 a'], 'a', None),
    ],
)
async def test_the_hosts_file_is_parsed_and_comes_before_the_nameservers(nameserver, lines, name, expected):  # hosts(5)
    server = nameserver(nxdomain)
    with files(hosts='\n'.join(lines)):
        resolve, _ = Resolver(get_nameservers=rounds(server))
        if expected is None:
            with pytest.raises(m.NameDoesNotExist):
                await resolve(name, TYPES.A)
        else:
            addresses = await resolve(name, TYPES.A)
            assert texts(addresses) == expected.split()
            assert {address.expires_at for address in addresses} == {now()}
            assert server.queries == []


async def test_the_other_family_is_found_in_the_hosts_file_with_its_zone(nameserver):
    with files(hosts='192.0.2.1 a\nfe80::1%lo a\n2001:db8::1 a'):
        resolve, _ = Resolver(get_nameservers=rounds(nameserver(nodata)))
        assert texts(await resolve('a', TYPES.AAAA)) == ['fe80::1%lo', '2001:db8::1']
        with pytest.raises(m.NoRecords):
            await resolve('a', TYPES.TXT)


async def test_a_file_is_parsed_once_and_again_when_it_has_changed(clock, tmp_path):
    path = tmp_path / 'hosts'
    path.write_text('one')
    parsed = []
    file = m.SystemFile(str(path), lambda lines: parsed.append([*lines]) or parsed[-1])
    assert file.read(0) == ['one']
    path.write_text('one more')
    assert file.read(0.9) == ['one']
    path.write_text('one')
    os.utime(path, ns=(0, file.version[4]))
    parsed.clear()
    file = m.SystemFile(str(path), lambda lines: parsed.append([*lines]) or parsed[-1])
    assert file.read(0) == ['one']
    assert file.read(0.5) is file.read(5) is parsed[0]
    path.write_text('two!')
    assert file.read(5.9) == ['one']  # looked at no more than once a second
    assert file.read(6) == ['two!']
    path.unlink()
    assert file.read(7) == []
    assert file.read(8) is parsed[2]
    (tmp_path / 'target').write_text('three')
    path.symlink_to(tmp_path / 'target')
    assert file.read(9) == ['three']
    assert file.read(3) == ['three']  # a clock that was put back
    assert len(parsed) == 4


@pytest.mark.parametrize(('option', 'asked'), [('', 'b.example'), ('options no-reload', 'a.example')])
async def test_a_resolver_reads_resolv_conf_again_unless_that_forbids_it(nameserver, monkeypatch, tmp_path, option, asked):
    path, server = tmp_path / 'resolv.conf', nameserver(a('192.0.2.1'))
    monkeypatch.setattr(m, 'RESOLV_CONF', str(path))
    path.write_text(f'nameserver 127.0.0.1\nsearch a.example\n{option}')
    with redirected(lambda ip, port: server.at):
        resolve, _ = Resolver(get_host=no_host)
        await resolve('x', TYPES.A)
        path.write_text(f'nameserver 127.0.0.1\nsearch b.example\n{option}')
        await asyncio.sleep(1)
        await resolve('y', TYPES.A)
    assert server.names == ['x.a.example', f'y.{asked}']


async def test_a_file_that_is_not_to_be_reloaded_is_not(tmp_path):
    path = tmp_path / 'resolv.conf'
    path.write_text('options no-reload')
    file = m.SystemFile(str(path), m.parse_resolv_conf, lambda conf: conf.reload)
    assert not file.read(0).reload
    path.write_text('options rotate')
    assert not file.read(100).rotate


@pytest.mark.parametrize('damage', ['directory', 'pipe', 'missing', 'binary', 'half a line', 'ten megabytes', 'no permission'])
async def test_a_damaged_file_does_no_harm(tmp_path, damage):
    path = tmp_path / 'hosts'
    file = m.SystemFile(str(path), m.parse_hosts)
    expected = {}
    if damage == 'directory':
        path.mkdir()
    elif damage == 'pipe':
        os.mkfifo(path)
    elif damage == 'binary':
        path.write_bytes(b'\xff\xfe\0\n192.0.2.1 a\n\xff.\xff 192.0.2.2\n192.0.2.3 b\xe9 c\n' + bytes(range(256)))
        expected = {b'a': ['192.0.2.1'], b'c': ['192.0.2.3']}
    elif damage == 'half a line':
        path.write_text('192.0.2.1 a\n192.0.')
        expected = {b'a': ['192.0.2.1']}
    elif damage == 'ten megabytes':
        path.write_text('192.0.2.1 a\n' + '#' * 10_000_000)
        expected = {b'a': ['192.0.2.1']}
    if damage == 'no permission':
        with unittest.mock.patch('aiodnsresolver.open', side_effect=PermissionError(errno.EACCES, 'no'), create=True):
            assert file.read(0) == {}
    else:
        found = file.read(0)
        assert {name: found[name] for name in expected} == expected
        assert found == expected or damage == 'binary'


async def test_a_file_that_is_written_to_while_it_is_read_is_read_again(tmp_path):
    path = tmp_path / 'hosts'
    path.write_text('192.0.2.1 a\n')
    file = m.SystemFile(str(path), m.parse_hosts)

    def open_and_write(path_, mode):
        path.write_text('192.0.2.2 a\n192.0.2.2 b\n')
        return contextlib.nullcontext(['192.0.2.2 a\n'])

    assert file.read(0) == {b'a': ['192.0.2.1']}
    path.write_text('192.0.2.1 a b\n')
    with unittest.mock.patch('aiodnsresolver.open', side_effect=open_and_write, create=True):
        assert file.read(1) == {b'a': ['192.0.2.1']}  # not the half
    assert file.read(2) == {b'a': ['192.0.2.2'], b'b': ['192.0.2.2']}
    path.write_text('192.0.2.1 a\n')
    file = m.SystemFile(str(path), m.parse_hosts)
    with unittest.mock.patch('aiodnsresolver.open', side_effect=open_and_write, create=True):
        assert file.read(3) == {b'a': ['192.0.2.2']}  # of a file that was never read, half is better than none
    assert file.read(3) == {b'a': ['192.0.2.2'], b'b': ['192.0.2.2']}


async def test_a_file_that_cannot_be_read_for_want_of_descriptors_is_as_it_was_and_read_later(tmp_path):
    path = tmp_path / 'hosts'
    path.write_text('192.0.2.1 a\n')
    shortage = unittest.mock.patch('aiodnsresolver.open', side_effect=OSError(errno.EMFILE, 'Too many open files'), create=True)
    known, new = (m.SystemFile(str(path), m.parse_hosts) for _ in range(2))
    assert known.read(0) == {b'a': ['192.0.2.1']}
    path.write_text('192.0.2.1 a b\n')
    with shortage:
        assert known.read(1) == {b'a': ['192.0.2.1']}
        with pytest.raises(m.FileShortage, match='hosts cannot be read: Too many open files'):
            new.read(1)
    assert new.read(1.1) == {b'a': ['192.0.2.1'], b'b': ['192.0.2.1']}
    assert known.read(2) == new.read(2) == {b'a': ['192.0.2.1'], b'b': ['192.0.2.1']}


async def test_the_files_are_opened_by_the_names_and_modes_that_existing_suites_patch(nameserver):
    resolve, _ = Resolver()
    opened = []
    with unittest.mock.patch('aiodnsresolver.open', side_effect=lambda *args: opened.append(args) or contextlib.nullcontext([])):
        with pytest.raises(m.DoesNotExist):
            await resolve('x.invalid', TYPES.A)
    assert sorted(opened) == [('/etc/hosts', 'r'), ('/etc/resolv.conf', 'r')]


# --- Failing nameservers ----------------------------------------------------------------------------------------------------------


def test_a_nameserver_that_failed_is_asked_last_until_one_query_tries_it_again():
    one, two = m.to_nameserver('192.0.2.1', 53), m.to_nameserver('192.0.2.2', 53)
    failing = m.FailingNameservers()
    assert failing.choose([one, two], 0) == one
    assert (failing.failed(one, 10), failing.failed(one, 11)) == (True, False)
    assert failing.choose([one, two], 40.9) == two
    assert failing.choose([one, two], 41) == one  # tried again
    assert failing.choose([one, two], 41) == two  # but by one
    assert failing.choose([two, one], 72) == two  # not by one that asks another first
    assert failing.choose([one, two], 72) == one
    assert (failing.failed(one, 11), failing.failed(two, 42)) == (False, True)
    assert failing.choose([one, two], 42) == one
    assert failing.choose([one], 99) == one
    assert failing.retry_at[two] == 72  # which is not in this list, and so is not tried
    assert failing.replied(one)
    assert failing.choose([two, one], 42) == one
    assert not failing.replied(one)
    assert failing.replies == {one: 2}


# --- Exchange ---------------------------------------------------------------------------------------------------------------------


def udp_pair():
    receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    receiver.setblocking(False)
    receiver.bind(('127.0.0.1', 0))
    sender.connect(receiver.getsockname())
    return receiver, sender


@pytest.mark.parametrize('loop_factory', LOOPS)
def test_recvfrom_gives_the_first_datagram_of_several_sockets_and_leaves_no_reader(loop_factory):
    async def scenario():
        loop = asyncio.get_running_loop()
        pairs = [udp_pair() for _ in range(3)]
        receivers = [receiver for receiver, _ in pairs]
        try:
            waiting = asyncio.ensure_future(recvfrom(loop, receivers, 512))
            await asyncio.sleep(0)
            pairs[1][1].send(b'first')
            assert await waiting == (b'first', pairs[1][1].getsockname())
            waiting = asyncio.ensure_future(recvfrom(loop, receivers, 512))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not any(loop.remove_reader(receiver.fileno()) for receiver in receivers)
            pairs[2][1].send(b'not lost')
            assert (await recvfrom(loop, receivers, 3))[0] == b'not'
        finally:
            for sock in itertools.chain(*pairs):
                sock.close()

    run(scenario(), loop_factory)


async def test_recvfrom_loses_no_datagram_when_it_is_cancelled_as_it_comes():
    loop = asyncio.get_running_loop()
    receiver, sender = udp_pair()
    with receiver, sender:
        waiting = asyncio.ensure_future(recvfrom(loop, [receiver], 512))
        await asyncio.sleep(0)
        sender.send(b'one')
        loop.call_soon(loop.call_soon, waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await recvfrom(loop, [receiver], 512))[0] == b'one'


async def test_recvfrom_goes_on_when_there_is_nothing_to_read_after_all():
    class Shy(socket.socket):
        times = 0

        def recvfrom(self, size):
            self.times += 1
            if self.times == 1:
                raise BlockingIOError  # a wrong checksum, or another reader was quicker
            return super().recvfrom(size)

    receiver, sender = udp_pair()
    shy = Shy(fileno=receiver.detach())
    with shy, sender:
        sender.send(b'one')
        assert (await recvfrom(asyncio.get_running_loop(), [shy], 512))[0] == b'one'
        assert shy.times == 2


async def test_recvfrom_leaves_no_reader_when_a_socket_was_closed_meanwhile():
    loop = asyncio.get_running_loop()
    pairs = [udp_pair(), udp_pair()]
    receivers = [receiver for receiver, _ in pairs]
    waiting = asyncio.ensure_future(recvfrom(loop, receivers, 512))
    await asyncio.sleep(0)
    kept_open = pairs[1][0].fileno()
    pairs[0][0].close()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not loop.remove_reader(kept_open)
    for sock in itertools.chain(*pairs):
        sock.close()


async def test_recvfrom_raises_the_error_of_a_socket():
    receiver, sender = udp_pair()
    receiver.close()
    with sender:
        sender.setblocking(False)
        sender.send(b'x')
        with pytest.raises(ConnectionRefusedError):
            await recvfrom(asyncio.get_running_loop(), [sender], 512)


@pytest.mark.parametrize('new_epoll', [m.new_epoll, None])
@pytest.mark.parametrize('loop_factory', LOOPS)
def test_look_ups_end_and_leave_nothing_in_the_loop_with_epoll_and_without(monkeypatch, loop_factory, new_epoll):
    monkeypatch.setattr(m, 'new_epoll', new_epoll)

    async def scenario():
        descriptors = descriptors_now()
        server, silent = Scripted('127.0.0.1', [first_then(wrong_case, a('192.0.2.1'))]), Scripted('127.0.0.1', [silence])
        resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((0.1, silent.at), (0.1, server.at)))
        assert {len(found) for found in await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(20)))} == {1}
        server.close()
        silent.close()
        await asyncio.sleep(0.25)
        assert descriptors_now() == descriptors

    run(scenario(), loop_factory)


async def test_a_socket_that_a_forked_process_holds_open_is_reported_once_at_most(nameserver, monkeypatch):
    dispatched = []
    dispatch = m.Poller.dispatch
    monkeypatch.setattr(m.Poller, 'dispatch', lambda poller: dispatched.append(now()) or dispatch(poller))
    held = []

    class Held(m.Socket):
        def close(self):
            held.append(os.dup(self.fileno()))  # as a fork has it
            super().close()

    server = nameserver(lambda query: [a('192.0.2.1')(query), 0.1, a('192.0.2.1')(query)])
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, server.at)))
    with monkeypatch.context() as patch:
        patch.setattr(m, 'Socket', Held)
        await resolve('www.example.com', TYPES.A)
    await asyncio.sleep(0.3)
    assert len(dispatched) <= 2
    for fd in held:
        os.close(fd)


async def test_a_poller_that_cannot_watch_is_not_left_in_the_loop(clock, monkeypatch):
    class Full:
        def __init__(self):
            self.epoll = select.epoll()
            self.fileno, self.close, self.poll = self.epoll.fileno, self.epoll.close, self.epoll.poll

        def register(self, fd, _):
            raise OSError(errno.ENOSPC, 'no more watches')

    monkeypatch.setattr(m, 'new_epoll', Full)
    readers = readers_of(asyncio.get_running_loop())
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, ('127.0.0.1', 9))))
    with pytest.raises(m.NameserverUnreachable, match='no more watches'):
        await resolve('www.example.com', TYPES.A)
    await asyncio.sleep(1)
    assert readers_of(asyncio.get_running_loop()) == readers


async def test_a_system_without_any_descriptor_for_epoll_is_an_error_that_says_so(clock, monkeypatch):
    def new_epoll():
        raise OSError(errno.EMFILE, 'Too many open files')

    monkeypatch.setattr(m, 'new_epoll', new_epoll)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, ('127.0.0.1', 9))))
    with pytest.raises(m.NameserverUnreachable, match='Too many open files'):
        await resolve('www.example.com', TYPES.A)


async def test_a_failure_of_many_kinds_is_told_of_in_part(clock, monkeypatch):
    class Forbidden(m.Socket):
        def send(self, data):
            raise PermissionError(errno.EPERM, 'Operation not permitted')

    monkeypatch.setattr(m, 'Socket', Forbidden)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets(*((1, ('127.0.0.1', port)) for port in range(1, 500))))
    with pytest.raises(m.NameserverUnreachable) as caught:
        await resolve('www.example.com', TYPES.A)
    assert str(caught.value).count('127.0.0.1') == m.MAX_FAILURES
    assert isinstance(caught.value.__cause__, PermissionError)


class WithoutReaders(asyncio.SelectorEventLoop):
    ours = False

    def add_reader(self, *_):
        raise NotImplementedError


@pytest.mark.parametrize('new_epoll', [m.new_epoll, None])
def test_a_loop_without_add_reader_is_an_error_that_says_what_to_do(monkeypatch, new_epoll):
    monkeypatch.setattr(m, 'new_epoll', new_epoll)

    async def scenario():
        descriptors = descriptors_now()
        resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, ('127.0.0.1', 53))))
        with pytest.raises(m.ResolverError, match=r'www.example.com A: WithoutReaders has no add_reader.*uvloop') as caught:
            await resolve('www.example.com', TYPES.A)
        assert isinstance(caught.value.__cause__, NotImplementedError)
        assert descriptors_now() == descriptors

    run(scenario(), WithoutReaders)


async def test_who_is_cancelled_while_he_waits_for_his_turn_gives_back_none(nameserver):
    server = nameserver(after(0.1, a('192.0.2.1')))
    resolve, _ = resolver_for(server, max_sockets=1)
    first, second = (asyncio.ensure_future(resolve(name, TYPES.A)) for name in ('a.example', 'b.example'))
    await asyncio.sleep(0.05)
    second.cancel()
    started = now()
    await resolve('c.example', TYPES.A)
    assert now() == pytest.approx(started + 0.05 + 0.1)
    assert (await asyncio.gather(second, return_exceptions=True), texts(await first)) == ([unittest.mock.ANY], ['192.0.2.1'])


@pytest.mark.parametrize(
    ('given', 'says'),
    [
        ((1, ('dns.example', 53)), "'dns.example' does not appear to be an IPv4 or IPv6 address"),
        ((1, ('127.0.0.1', 0)), '0 is no port'),
        ((1, ('127.0.0.1', 65536)), '65536 is no port'),
        ((1, ('127.0.0.1', '53')), "'53' is no port"),
        ((1, ('127.0.0.1',)), 'port'),
        ((1, 'ab'), 'ab'),
        ((1, 2130706433), 'int'),
        ((-1, ('127.0.0.1', 53)), '-1 is no timeout'),
        ((math.inf, ('127.0.0.1', 53)), 'inf is no timeout'),
        ((math.nan, ('127.0.0.1', 53)), 'nan is no timeout'),
        ((10**400, ('127.0.0.1', 53)), 'too large'),
        (('1', ('127.0.0.1', 53)), "'1'"),
        ((), 'get_nameservers yielded (), where'),
        (None, 'None'),
    ],
)
async def test_nonsense_from_get_nameservers_is_an_error_that_shows_it(clock, given, says):
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets(given))
    with pytest.raises(m.ResolverError, match=re.escape(says)) as caught:
        await resolve('www.example.com', TYPES.A)
    assert str(caught.value).startswith('www.example.com A: get_nameservers yielded ')
    assert isinstance(caught.value.__cause__, (TypeError, ValueError, OverflowError))


async def test_a_timeout_may_be_any_number_and_spoils_no_equal_one(nameserver):
    silent, server = nameserver(silence), nameserver(a('192.0.2.1'))
    for half in (decimal.Decimal('0.5'), fractions.Fraction(1, 2), 0.5):
        resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((half, silent.at), (1, server.at)))
        started = now()
        await resolve('www.example.com', TYPES.A)
        assert now() == started + 0.5


@pytest.mark.parametrize('ip', ['127.0.0.1', '::1', ipaddress.ip_address('127.0.0.1'), ipaddress.ip_address('::1')])
async def test_nameservers_of_both_families_are_asked_by_text_or_object(nameserver, ip):
    server = nameserver(a('192.0.2.1'), address=str(ip))
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, (ip, server.at[1]))))
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']


def test_a_nameserver_is_connected_to_with_its_zone_and_without_a_look_up():
    loopback = socket.if_nametoindex('lo')
    assert m.to_nameserver('fe80::1%lo', 53).address() == ('fe80::1', 53, 0, loopback)
    assert m.to_nameserver('fe80::1%7', 53).address() == ('fe80::1', 53, 0, 7)
    assert m.to_nameserver('::1', 53).address() == ('::1', 53)
    assert [str(m.to_nameserver(ip, 53)) for ip in ('192.0.2.1', '::1', 'fe80::1%lo')] == ['192.0.2.1:53', '[::1]:53', '[fe80::1%lo]:53']
    with pytest.raises(OSError, match='interface|device'):
        m.to_nameserver('fe80::1%nosuch', 53).address()


# --- Look-ups: who is asked, and when -----------------------------------------------------------------------------------------------


async def test_an_address_comes_with_the_time_it_expires(nameserver):
    server = nameserver(after(0.3, a('192.0.2.1', '192.0.2.2')))
    resolve, _ = resolver_for(server)
    started = now()
    addresses = await resolve('www.example.com', TYPES.A)
    assert texts(addresses) == ['192.0.2.1', '192.0.2.2']
    assert [address.expires_at for address in addresses] == [started + 20] * 2  # from when the query was sent, not from the reply
    assert all(isinstance(address, IPv4AddressExpiresAt) for address in addresses)
    assert now() == started + 0.3


async def test_the_other_types_are_asked_for(nameserver):
    server = nameserver(a('2001:db8::1'), reply('? 20 IN TXT "so" "me"'), alias('b.example'))
    resolve, _ = resolver_for(server)
    assert texts(await resolve('www.example.com', TYPES.AAAA)) == ['2001:db8::1']
    assert await resolve('www.example.com', TYPES.TXT) == (b'some',)
    assert await resolve('www.example.com', TYPES.CNAME) == (b'b.example',)
    assert [qtype for _, qtype, *_ in server.queries] == [28, 16, 5]


async def test_what_is_equal_to_a_type_is_one(nameserver):
    resolve, _ = resolver_for(nameserver(a('192.0.2.1')))
    assert texts(await resolve('www.example.com', 1)) == ['192.0.2.1']
    with pytest.raises(m.ResolverError, match='www.example.com AAAA:'):
        await resolve('www.example.com', 28)
    assert texts(await resolve('ftp.example.com', 1.0)) == ['192.0.2.1']


async def test_a_get_host_is_given_a_member_of_types_whatever_the_caller_gave():
    given = []

    async def get_host(fqdn, qtype):
        given.append(qtype)
        return ipaddress.ip_address('192.0.2.1')

    resolve, _ = Resolver(get_host=get_host)
    for qtype in (TYPES.A, 1, 1.0):
        await resolve('www.example.com', qtype)
    assert [qtype.name for qtype in given] == ['A', 'A', 'A']


@pytest.mark.parametrize(
    ('name', 'qtype', 'error', 'says'),
    [
        ('www.example.com', 2, ValueError, '2 is none of the types that can be asked for: A, CNAME, TXT, AAAA'),
        ('www.example.com', None, ValueError, 'None is none'),
        ('www.example.com', 'A', ValueError, "'A' is none"),
        ('www.example.com', 'AAAA', ValueError, 'use TYPES.AAAA'),
        (b'www.example.com', TYPES.A, TypeError, "b'www.example.com' is none"),
        (None, TYPES.A, TypeError, 'None is none'),
        (['x'], TYPES.A, TypeError, 'is none'),
        ('www.example.com', 1.5, ValueError, '1.5 is none'),
        ('www.example.com', [], ValueError, '[] is none'),
    ],
)
async def test_an_argument_of_another_kind_is_refused_before_anything_is_sent(nameserver, name, qtype, error, says):
    server = nameserver(a('192.0.2.1'))
    resolve, _ = resolver_for(server)
    with pytest.raises(error, match=re.escape(says)):
        await resolve(name, qtype)
    assert server.queries == []


@pytest.mark.parametrize(
    'options', [{'max_sockets': 0}, {'max_cache_size': -1}, {'timeout': 0}, {'timeout': math.inf}, {'timeout': math.nan}]
)
def test_a_number_that_makes_no_sense_is_refused_when_the_resolver_is_made(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Resolver(**options)
    with pytest.raises(ValueError, match='timeout'):
        Resolver(timeout=1, get_nameservers=sets())


@pytest.mark.parametrize('hook', ['get_host', 'get_nameservers', 'transform_fqdn'])
def test_a_hook_that_is_no_function_is_refused_when_the_resolver_is_made(hook):
    with pytest.raises(TypeError, match="'127.0.0.1' is none"):
        Resolver(**{hook: '127.0.0.1'})


def test_a_transform_fqdn_of_none_is_refused_when_the_resolver_is_made():
    with pytest.raises(TypeError, match='None is none'):
        Resolver(transform_fqdn=None)


async def test_a_get_nameservers_that_is_no_async_generator_is_an_error_that_says_so(clock):
    for hook in (lambda _: [(1, ('127.0.0.1', 53))], lambda _: iter(())):
        resolve, _ = Resolver(get_host=no_host, get_nameservers=hook)
        with pytest.raises(m.ResolverError, match='www.example.com A: get_nameservers gave .* async generator'):
            await resolve('www.example.com', TYPES.A)


async def test_digits_that_are_no_address_are_a_name(nameserver):
    server = nameserver(a('192.0.2.1'))
    resolve, _ = resolver_for(server)
    assert texts(await resolve('1.2.3', TYPES.A)) == ['192.0.2.1']
    assert server.names == ['1.2.3']


async def test_an_ip_literal_is_its_own_answer(clock):
    resolve, _ = Resolver(get_host=None, get_nameservers=sets())
    assert texts(await resolve('１９２.０.２.１', TYPES.A)) == ['192.0.2.1']
    for name, qtype in (('192.0.2.1', TYPES.A), ('192.0.2.1.', TYPES.A), ('2001:DB8::1', TYPES.AAAA), ('fe80::1%lo', TYPES.AAAA)):
        (address,) = await resolve(name, qtype)
        assert (address, address.expires_at) == (ipaddress.ip_address(name.removesuffix('.')), math.inf)
    for name, qtype in (('192.0.2.1', TYPES.AAAA), ('::1', TYPES.A), ('::1', TYPES.TXT)):
        with pytest.raises(m.NoRecords, match=r'this is an IPv\d address'):
            await resolve(name, qtype)


@pytest.mark.parametrize(
    ('name', 'qtype', 'expected'),
    [
        ('localhost', TYPES.A, '127.0.0.1'),
        ('LOCALHOST.', TYPES.AAAA, '::1'),
        ('a.b.localhost', TYPES.A, '127.0.0.1'),
        ('localhost', TYPES.TXT, m.NoRecords),
        ('x.onion', TYPES.A, m.NameDoesNotExist),
        ('onion', TYPES.A, m.NameDoesNotExist),
        ('x.invalid', TYPES.AAAA, m.NameDoesNotExist),
        ('x.local', TYPES.A, '192.0.2.9'),
        ('xlocalhost', TYPES.A, '192.0.2.9'),
        ('localhost.example', TYPES.A, '192.0.2.9'),
    ],
)
async def test_special_names_are_not_asked_for(nameserver, get_host, name, qtype, expected):  # RFC 6761, RFC 7686
    server = nameserver(a('192.0.2.9'))
    resolve, _ = resolver_for(server, get_host=get_host)
    if isinstance(expected, str):
        (address,) = await resolve(name, qtype)
        assert str(address) == expected
        assert address.expires_at == (now() + 20 if expected == '192.0.2.9' else now())
    else:
        with pytest.raises(expected) as caught:
            await resolve(name, qtype)
        says = {
            m.NoRecords: 'has no such record: names under localhost have addresses alone (RFC 6761)',
            m.NameDoesNotExist: 'does not exist: such names are not in the DNS (RFC 7686, RFC 6761)',
        }
        assert str(caught.value) == f'{name} {qtype.name}: {says[expected]}'
    assert len(server.queries) == (expected == '192.0.2.9')


async def test_the_hosts_file_comes_before_what_is_special(clock):
    with files(hosts='192.0.2.1 localhost x.onion'):
        resolve, _ = Resolver(get_nameservers=sets())
        assert texts(await resolve('localhost', TYPES.A)) == texts(await resolve('x.onion', TYPES.A)) == ['192.0.2.1']
        assert texts(await resolve('localhost', TYPES.AAAA)) == ['::1']


@pytest.mark.parametrize(
    ('found', 'expected'),
    [
        (ipaddress.ip_address('192.0.2.1'), ['192.0.2.1']),
        (IPv4AddressExpiresAt('192.0.2.1', 5), ['192.0.2.1']),
        ((ipaddress.ip_address('192.0.2.1'), ipaddress.ip_address('fe80::1%lo')), ['192.0.2.1', 'fe80::1%lo']),
        ((), ['192.0.2.9']),
        (None, ['192.0.2.9']),
        (b'text', ["b'text'"]),
    ],
)
async def test_a_get_host_of_ones_own_gives_none_one_or_several(nameserver, found, expected):
    asked = []

    async def get_host(fqdn, qtype):
        asked.append((fqdn, qtype))
        return found

    resolve, _ = resolver_for(nameserver(a('192.0.2.9')), get_host=get_host)
    addresses = await resolve('WWW.example.com.', TYPES.A)
    assert texts(addresses) == expected
    assert all(hasattr(address, 'expires_at') for address in addresses)
    assert asked == [(b'www.example.com', TYPES.A)]


async def test_what_a_get_host_gives_with_an_expiry_keeps_it_and_what_has_none_expires_at_once(clock):
    for found, expires_at in ((IPv4AddressExpiresAt('192.0.2.1', 5), 5), (ipaddress.ip_address('192.0.2.1'), 1000), (b'text', 1000)):

        async def get_host(fqdn, qtype, found=found):
            return found

        resolve, _ = Resolver(get_host=get_host)
        (address,) = await resolve('www.example.com', TYPES.A)
        assert address.expires_at == expires_at


async def test_what_a_get_host_gives_for_an_alias_expires_with_that_at_the_latest(nameserver):
    async def get_host(fqdn, qtype):
        return (IPv4AddressExpiresAt('192.0.2.1', 1005), IPv4AddressExpiresAt('192.0.2.2', 1030)) if fqdn == b'b.example' else None

    resolve, _ = resolver_for(nameserver(alias('b.example')), get_host=get_host)
    assert [address.expires_at for address in await resolve('www.example.com', TYPES.A)] == [1005, 1020]


async def test_what_expires_while_a_get_host_takes_its_time_is_asked_for_again(nameserver):
    async def get_host(fqdn, qtype):
        await asyncio.sleep(2)

    server = nameserver(a('192.0.2.1', ttl=20))
    resolve, _ = resolver_for(server, get_host=get_host)
    await resolve('www.example.com', TYPES.A)
    await asyncio.sleep(19)
    await resolve('www.example.com', TYPES.A)
    assert len(server.queries) == 2


async def test_a_get_host_that_gives_something_else_is_an_error_that_shows_it(clock):
    async def get_host(fqdn, qtype):
        return '192.0.2.1'

    for hook, says in ((get_host, "where an ipaddress object, .* '192.0.2.1' is no ipaddress object"), (lambda *_: None, 'async def')):
        resolve, _ = Resolver(get_host=hook, get_nameservers=sets())
        with pytest.raises(m.ResolverError, match=f'www.example.com A: get_host gave .*{says}'):
            await resolve('www.example.com', TYPES.A)


@pytest.mark.parametrize(
    ('bad', 'did', 'error', 'waited'),
    [
        (silence, 'timed out after 0.5 s', m.ResolverTimeout, 0.5),
        (servfail, 'answered SERVFAIL', m.ResponseCodeError, 0),
        (refused, 'answered REFUSED', m.ResponseCodeError, 0),
        (formerr, 'answered FORMERR', m.ResponseCodeError, 0),
        (notimp, 'answered NOTIMP', m.ResponseCodeError, 0),
        (lame, 'answered that it neither knows nor looks up the name (lame)', m.TemporaryResolverError, 0),
        (truncated_and_empty, 'answered with a truncated reply that holds no record', m.TemporaryResolverError, 0),
        ('closed', 'refused: nothing listens there', m.NameserverRefused, 0),
    ],
)
async def test_a_nameserver_of_no_use_is_out_and_the_next_is_asked_at_once(nameserver, bad, did, error, waited):
    one, two = nameserver(silence if bad == 'closed' else bad), nameserver(a('192.0.2.1'))
    if bad == 'closed':
        one.close()
    resolve, _ = resolver_for(one, two)
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == started + waited

    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(one, times=3))
    started = now()
    with pytest.raises(error) as caught:
        await resolve('www.example.com', TYPES.A)
    assert type(caught.value) is error
    assert str(caught.value) == f'www.example.com A: {one.text} {did} (3 times)'
    assert now() == started + 3 * waited
    if bad == 'closed':
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        assert caught.value.errno == errno.ECONNREFUSED


async def test_the_error_tells_what_each_nameserver_did_and_is_of_the_kind_of_the_last(nameserver):
    one, two, three = nameserver(silence), nameserver(servfail), nameserver(silence)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((0.5, one.at), (2, two.at, three.at), (0.1, two.at)))
    with pytest.raises(m.ResponseCodeError) as caught:
        await resolve('www.example.com', TYPES.A)
    assert caught.value.rcode == 2
    assert str(caught.value) == (
        f'www.example.com A: {one.text} timed out after 0.5 s; {two.text} answered SERVFAIL (2 times); {three.text} timed out after 2 s'
    )
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((2, three.at, two.at)))
    with pytest.raises(m.ResolverTimeout):
        await resolve('www.example.com', TYPES.A)


async def test_an_unreachable_nameserver_is_out(nameserver):
    server = nameserver(a('192.0.2.1'))
    unreachable = ('fe80::1%nosuch', 53)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, unreachable), (1, server.at)))
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, unreachable)))
    with pytest.raises(m.NameserverUnreachable, match=r'\[fe80::1%nosuch\]:53 cannot be asked: ') as caught:
        await resolve('www.example.com', TYPES.A)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize('empty', [(1,), (1, ('fe80::1%nosuch', 53)), (1, ('fe80::1%nosuch', 53), ('fe80::2%nosuch', 53))])
async def test_a_set_with_nothing_to_connect_to_goes_on_to_the_next(nameserver, empty):
    server = nameserver(a('192.0.2.1'))
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets(empty, empty, (1, server.at)))
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == started


@pytest.mark.parametrize('given', [(), ((1,), (1,))])
async def test_without_any_nameserver_the_error_says_so(clock, given):
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets(*given))
    with pytest.raises(m.TemporaryResolverError, match='www.example.com A: there is no nameserver to ask'):
        await resolve('www.example.com', TYPES.A)


async def test_a_nameserver_slower_than_its_timeout_still_answers(nameserver):
    slow, silent = nameserver(after(0.7, a('192.0.2.1'))), nameserver(silence)
    resolve, _ = resolver_for(slow, silent)
    started = now()
    (address,) = await resolve('www.example.com', TYPES.A)
    assert (str(address), now(), address.expires_at) == ('192.0.2.1', started + 0.7, started + 20)


async def test_an_answer_that_comes_with_its_timeout_is_not_lost(nameserver):
    server = nameserver(after(0.5, a('192.0.2.1')), silence)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=2))
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() <= server.queries[0][2] + 0.5


async def test_an_answer_that_comes_while_the_hook_takes_its_time_is_not_lost(nameserver):
    slow, other = nameserver(after(0.6, a('192.0.2.1'))), nameserver(silence)

    async def get_nameservers(_):
        yield 0.5, slow.at
        await asyncio.sleep(1)
        yield 0.5, other.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert other.queries == []


async def test_an_answer_that_comes_after_the_last_set_while_the_hook_goes_on_is_not_lost(nameserver):
    slow = nameserver(after(0.2, a('192.0.2.1')), after(0.2, edited(lambda data: bytes(data[:-5]) + b'\3' + bytes(data[-3:]))))

    async def get_nameservers(_):
        yield 0.1, slow.at
        await asyncio.sleep(0.4)

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    with pytest.raises(m.BadAddress):
        await resolve('other.example.com', TYPES.A)


async def test_a_hook_that_is_no_generator_of_pythons_own_is_closed_too(nameserver):
    server = nameserver(a('192.0.2.1'))

    class Sets:
        closed = 0

        def __aiter__(self):
            return self

        async def __anext__(self):
            return 1, server.at

        async def aclose(self):
            self.closed += 1

    sets_ = Sets()
    resolve, _ = Resolver(get_host=no_host, get_nameservers=lambda _: sets_)
    await resolve('www.example.com', TYPES.A)
    assert sets_.closed == 1


async def test_a_hook_that_waits_or_asks_in_turn_keeps_nobody_from_his_turn(nameserver):
    server = nameserver(a('192.0.2.1'))

    async def get_nameservers(fqdn):
        if fqdn != b'ns.example':
            await asyncio.sleep(1)
            await resolve('ns.example', TYPES.A)
        yield 1, server.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=1)
    started = now()
    await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(5)))
    assert now() == started + 1


async def test_nameservers_are_chosen_when_the_turn_of_a_look_up_has_come(nameserver):
    server = nameserver(after(0.5, a('192.0.2.1')))
    chosen_at = []

    async def get_nameservers(fqdn):
        chosen_at.append(now())
        yield 1, server.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=2)
    await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(6)))
    assert chosen_at == [1000, 1000, 1000.5, 1000.5, 1001, 1001]


async def test_a_hook_is_not_called_for_who_is_cancelled_before_his_turn(nameserver):
    server, called = nameserver(after(0.5, a('192.0.2.1'))), []

    def get_nameservers(fqdn):
        called.append(fqdn)
        return sets((1, server.at))(fqdn)

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=1)
    first, second, third = (asyncio.ensure_future(resolve(f'{name}.example', TYPES.A)) for name in 'abc')
    await asyncio.sleep(0.1)
    second.cancel()
    await asyncio.gather(first, third)
    assert called == [b'a.example', b'c.example']


@pytest.mark.parametrize('count', [1, 2, 5])
async def test_a_hook_that_asks_between_its_sets_does_not_wait_for_the_sockets_of_its_own_look_ups(nameserver, count):
    silent, server = nameserver(silence), nameserver(a('192.0.2.1'))

    async def get_nameservers(fqdn):
        if fqdn != b'ns.example':
            yield 0.5, silent.at
            await resolve('ns.example', TYPES.A)
        yield 0.5, server.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=2)
    started = now()
    await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(count)))
    assert now() == started + (count + 1) // 2 * 0.5


@pytest.mark.parametrize(('max_sockets', 'others', 'waited'), [(1, 0, 0.6), (1, 1, 2), (2, 1, 0.6)])
async def test_the_turns_of_who_awaits_a_hook_are_for_others_if_they_need_them(nameserver, monkeypatch, max_sockets, others, waited):
    counts = count_sockets(monkeypatch)
    slow, server = nameserver(after(0.6, a('192.0.2.1'))), nameserver(a('192.0.2.2'))

    async def get_nameservers(fqdn):
        if fqdn == b'www.example.com':
            yield 0.5, slow.at
            await asyncio.sleep(1.5)
        yield 0.5, server.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=max_sockets)
    started = now()
    first = asyncio.ensure_future(resolve('www.example.com', TYPES.A))
    await asyncio.sleep(0.1)
    for i in range(others):
        await resolve(f'n{i}.example', TYPES.A)
        assert now() == started + (0.5 if max_sockets == 1 else 0.1)
    assert texts(await first) == ['192.0.2.1' if waited < 1 else '192.0.2.2']
    assert now() == started + 2
    await asyncio.gather(*(resolve(f'm{i}.example', TYPES.A) for i in range(3)))
    assert max(counts) == max_sockets


async def test_a_step_that_takes_long_does_not_count_for_the_queries_that_wait_for_its_end(nameserver, clock):
    silent, server = nameserver(silence), nameserver(a('192.0.2.1', ttl=20))

    async def get_nameservers(fqdn):
        yield 0.5, silent.at if fqdn == b'first.example' else server.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    first, *others = (asyncio.ensure_future(resolve(f'{name}.example', TYPES.A)) for name in ('first', 'a', 'b', 'c'))
    asyncio.get_running_loop().call_soon(setattr, clock, 'now', clock.now + 0.7)
    found = await asyncio.gather(*others)
    assert len([handle for handle in asyncio.get_running_loop()._scheduled if not handle.cancelled()]) == 1
    assert [[address.expires_at for address in addresses] for addresses in found] == [[1020.7]] * 3
    assert [sent for _, _, sent, *_ in server.queries] == [1000.7] * 3
    with pytest.raises(m.ResolverTimeout):
        await first
    assert now() == 1000.7  # its time had come meanwhile, and is not put off by the queries that left


async def test_a_reply_that_comes_while_a_hook_is_closed_after_an_error_does_no_harm(nameserver):
    server = nameserver(after(0.7, a('192.0.2.1')))
    sent = []

    def transform(fqdn):
        sent.append(fqdn)
        return fqdn if len(sent) < 2 else b'another.example'

    async def get_nameservers(_):
        try:
            yield 0.5, server.at
            yield 5, server.at
        finally:
            await asyncio.sleep(1)

    resolve, _ = resolver_for(get_nameservers=get_nameservers, transform_fqdn=transform)
    with pytest.raises(m.ResolverError, match='may change the case of letters alone'):
        await resolve('www.example.com', TYPES.A)
    assert len(server.queries) == 1


@pytest.mark.real_time
async def test_a_hook_that_yields_sets_of_no_use_for_ever_does_not_stop_the_loop():
    async def get_nameservers(_):
        while True:
            yield 1, ('fe80::1%nosuch', 53)

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(resolve('www.example.com', TYPES.A), 0.05)


async def test_a_late_failure_is_told_too_and_ends_nothing(nameserver):
    late, slow = nameserver(after(0.7, servfail)), nameserver(after(0.4, a('192.0.2.1')))
    resolve, _ = resolver_for(late, slow)
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == started + 0.9


async def test_in_a_parallel_set_the_first_definite_answer_wins_and_all_are_sent_to_at_once(nameserver):
    for replies, expected in (
        ([after(0.3, a('192.0.2.1')), after(0.2, a('192.0.2.2')), silence], '192.0.2.2'),
        ([servfail, after(0.2, a('192.0.2.2')), silence], '192.0.2.2'),
        ([after(0.3, a('192.0.2.1')), nxdomain, silence], None),
    ):
        servers = [nameserver(reply) for reply in replies]
        resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((0.5, *(server.at for server in servers))))
        started = now()
        if expected is None:
            with pytest.raises(m.NameDoesNotExist):
                await resolve('www.example.com', TYPES.A)
        else:
            assert texts(await resolve('www.example.com', TYPES.A)) == [expected]
        assert {server.queries[0][2] for server in servers} == {started}


async def test_the_next_set_is_asked_when_all_of_a_set_are_out(nameserver):
    bad = [nameserver(servfail), nameserver(refused), nameserver(after(0.1, servfail))]
    good = nameserver(a('192.0.2.1'))
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((5, *(server.at for server in bad)), (5, good.at)))
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == started + 0.1


@pytest.mark.parametrize(
    'forged',
    [
        lambda _: b'',
        lambda _: b'\0',
        lambda _: b'garbage' * 100,
        lambda _: b'\0' * 65507,
        edited(set_octet(0, lambda octet: octet ^ 0xFF)),
        edited(set_octet(2, lambda octet: octet & 0x7F)),
        edited(set_octet(5, lambda _: 2)),
        edited(lambda data: bytes(data[:-2])),
        wrong_case,
        question_in(lambda name: 'x' + name),
    ],
)
async def test_a_forged_reply_is_ignored_and_the_true_one_wins(nameserver, forged):
    server = nameserver(first_then(forged, forged, a('192.0.2.1')))
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=1))
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert (now(), len(server.queries)) == (started, 1)


async def test_a_reply_from_another_address_never_arrives(nameserver):
    liar = nameserver(silence)

    def lie(query):
        data = a('192.0.2.66')(query)
        return [lambda server: liar.sock.sendto(data, server.queries[-1][4]), 0.1, a('192.0.2.1')(query)]

    resolve, _ = resolver_for(nameserver(lie))
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']


async def test_a_reply_in_another_case_is_told_with_the_cure(nameserver):
    one, two = nameserver(wrong_case), nameserver(wrong_case, address='127.0.0.2')
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(one, two, times=1))
    with pytest.raises(m.ResolverTimeout) as caught:
        await resolve('www.example.com', TYPES.A)
    assert str(caught.value) == (
        f'www.example.com A: {one.text} timed out after 0.5 s; {two.text} timed out after 0.5 s; a reply of {one.text} and {two.text} was '
        'ignored, since the letters of its question are not in the case they were sent in: if that is how this nameserver is, turn the '
        'mixing of the case off, by Resolver(transform_fqdn=lambda fqdn: fqdn)'
    )
    with system(one):
        resolve, _ = Resolver()
        with pytest.raises(m.ResolverTimeout, match='by "options randomize-case:0" in resolv.conf or Resolver.transform_fqdn'):
            await resolve('www.example.com', TYPES.A)


async def test_a_transform_fqdn_of_ones_own_is_used(nameserver):
    server = nameserver(a('192.0.2.1'))
    for transform, sent in ((bytes.upper, 'WWW.EXAMPLE.COM'), (lambda fqdn: fqdn, 'www.example.com')):
        resolve, _ = resolver_for(server, transform_fqdn=transform)
        await resolve('www.Example.com', TYPES.A)
        assert server.queries[-1][0] == sent


async def test_each_query_has_an_id_a_port_and_a_case_of_its_own(nameserver):
    server = nameserver(a('192.0.2.1', ttl=0))
    resolve, _ = resolver_for(server)
    for _ in range(200):
        await resolve('www.some-longer-name.example.com', TYPES.A)
    ids, ports, cases = ({key(query) for query in server.queries} for key in (lambda q: q[3][:2], lambda q: q[4][1], lambda q: q[0]))
    assert len(ids) > 180
    assert len(ports) > 150
    assert len(cases) > 190
    assert {name.lower() for name in cases} == {'www.some-longer-name.example.com'}
    assert parse(server.queries[0][3])[1:9] == (0, 0, 0, 0, 1, 0, 0, 0)


async def test_in_a_set_and_in_a_retry_each_query_has_an_id_and_a_case_of_its_own(nameserver):
    server = nameserver(silence)
    resolve, _ = Resolver(no_host, sets(*[(1, server.at, server.at)] * 5))
    with pytest.raises(m.ResolverTimeout):
        await resolve('www.some-longer-name.example.com', TYPES.A)
    assert [len({key(query) for query in server.queries}) for key in (lambda q: q[3][:2], lambda q: q[0])] == [10, 10]


async def test_ids_and_cases_are_of_the_systems_own_randomness(nameserver):
    server = nameserver(a('192.0.2.1'))
    resolve, _ = resolver_for(server)
    with unittest.mock.patch('aiodnsresolver.os.urandom', lambda count: bytes([0x12, 0x34, *[0xFF] * count][:count])):
        await resolve('www.example.com', TYPES.A)
        assert mix_case(b'abcd') == b'aBCD'
    ((name, _, _, wire, _),) = server.queries
    assert (name, wire[:2]) == ('WWW.EXAMPLE.COM', b'\x12\x34')


async def test_a_bad_address_is_raised_at_once_and_is_no_matter_of_another_nameserver(nameserver):
    server = nameserver(edited(lambda data: bytes(data[:-5]) + b'\3' + bytes(data[-3:])))
    resolve, _ = resolver_for(server)
    with pytest.raises(m.BadAddress, match=rf'www.example.com A: {server.text} gave .*3 octets, where an address has 4'):
        await resolve('www.example.com', TYPES.A)
    assert len(server.queries) == 1


@pytest.mark.parametrize('socket_type', [m.SOCKET_TYPE, socket.SOCK_DGRAM])
async def test_a_socket_is_non_blocking_on_every_system(nameserver, monkeypatch, socket_type):
    monkeypatch.setattr(m, 'SOCKET_TYPE', socket_type)
    blocking = []

    class Socket(m.Socket):
        def recv(self, size):
            blocking.append(self.getblocking())
            return super().recv(size)

    monkeypatch.setattr(m, 'Socket', Socket)
    resolve, _ = resolver_for(nameserver(after(0.1, a('192.0.2.1'))))
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert blocking == [False]


async def test_what_comes_after_a_wrong_checksum_is_read(nameserver, monkeypatch):
    class Socket(m.Socket):
        def recv(self, size):
            data = super().recv(size)
            if data == b'spoilt':
                raise BlockingIOError
            return data

    monkeypatch.setattr(m, 'Socket', Socket)
    resolve, _ = resolver_for(nameserver(lambda query: [b'spoilt', 0.1, a('192.0.2.1')(query)]))
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == pytest.approx(started + 0.1)


async def test_a_reply_of_any_length_is_read_as_a_whole(nameserver):
    addresses = [f'198.51.{i // 256}.{i % 256}' for i in range(4092)]  # 65,505 octets, where a datagram has room for 65,507
    resolve, _ = resolver_for(nameserver(a(*addresses)))
    assert texts(await resolve('www.example.com', TYPES.A)) == addresses


def test_a_forked_process_sends_other_ids_and_cases():
    question = m.Question(b'www.some-longer-name.example.com', TYPES.A)
    receiver, sender = os.pipe()
    if not os.fork():
        os.write(sender, m.make_query(question, mix_case))
        os._exit(0)
    os.wait()
    theirs, ours = os.read(receiver, 512), m.make_query(question, mix_case)
    os.close(receiver)
    os.close(sender)
    assert theirs.lower()[12:] == ours.lower()[12:]
    assert theirs != ours
    assert theirs[12:] != ours[12:]


async def test_the_poller_and_its_timer_are_gone_one_timeout_after_the_last_look_up(nameserver):
    loop = asyncio.get_running_loop()
    resolve, _ = resolver_for(nameserver(a('192.0.2.1', ttl=3600)))
    readers = readers_of(loop)
    for i in range(2):
        await resolve(f'n{i}.example', TYPES.A)  # what is kept has no timer
        await asyncio.sleep(0.2)
    assert len(readers_of(loop) - readers) == 1
    assert len([handle for handle in loop._scheduled if not handle.cancelled()]) == 1
    await asyncio.sleep(0.1)
    assert readers_of(loop) == readers
    assert not [handle for handle in loop._scheduled if not handle.cancelled()]


async def test_an_error_of_a_transform_fqdn_passes_through_as_it_is(nameserver):
    def transform(_):
        raise OSError(errno.EMFILE, 'of the hook')

    resolve, _ = resolver_for(nameserver(a('192.0.2.1')), transform_fqdn=transform)
    with pytest.raises(OSError, match='of the hook') as caught:
        await resolve('www.example.com', TYPES.A)
    assert type(caught.value) is OSError


# --- Aliases ---------------------------------------------------------------------------------------------------------------------------


async def test_an_alias_whose_end_is_not_in_the_reply_is_asked_for(nameserver):
    server = nameserver(alias('b.example', ttl=9), after(0.25, alias('c.example', ttl=30)), a('192.0.2.1', '192.0.2.2', ttl=7))
    resolve, _ = resolver_for(server)
    started = now()
    addresses = await resolve('www.example.com', TYPES.A)
    assert server.names == ['www.example.com', 'b.example', 'c.example']
    assert [(str(address), address.expires_at) for address in addresses] == [('192.0.2.1', started + 7.25), ('192.0.2.2', started + 7.25)]


async def test_what_an_alias_leads_to_is_asked_for_by_the_same_type(nameserver):
    resolve, _ = resolver_for(nameserver(alias('b.example'), a('2001:db8::1')))
    assert texts(await resolve('www.example.com', TYPES.AAAA)) == ['2001:db8::1']


async def test_the_expiry_over_a_chain_is_that_of_its_first_link_to_expire(nameserver):
    server = nameserver(alias('b.example', ttl=5), alias('c.example', ttl=50), a('192.0.2.1', ttl=100))
    resolve, _ = resolver_for(server)
    for name, ttl in (('www.example.com', 5), ('b.example', 50), ('c.example', 100)):
        (address,) = await resolve(name, TYPES.A)
        assert address.expires_at == now() + ttl
    await asyncio.sleep(5)
    await resolve('www.example.com', TYPES.A)
    assert server.names == ['www.example.com', 'b.example', 'c.example', 'www.example.com']


async def test_at_the_end_of_a_chain_over_replies_each_record_keeps_its_own_expiry_but_no_more_than_the_aliases(nameserver):
    server = nameserver(alias('b.example', ttl=25), reply('? 20 IN A 192.0.2.1', '? 30 IN A 192.0.2.2'))
    resolve, _ = resolver_for(server)
    assert [address.expires_at - now() for address in await resolve('www.example.com', TYPES.A)] == [20, 25]
    assert [address.expires_at - now() for address in await resolve('b.example', TYPES.A)] == [20, 30]


class Blocked(m.DoesNotExist):
    def __init__(self, name, why):
        super().__init__(f'{name} is blocked: {why}')


@pytest.mark.parametrize('error', [Blocked('b.example', 'policy'), m.DoesNotExist('policy'), KeyError('b')])
async def test_what_get_host_raises_passes_as_it_is_for_an_alias_too(nameserver, error):
    async def get_host(fqdn, qtype):
        if fqdn == b'b.example':
            raise error

    resolve, _ = resolver_for(nameserver(alias('b.example')), get_host=get_host)
    with pytest.raises(type(error)) as caught:
        await resolve('www.example.com', TYPES.A)
    assert caught.value is error


@pytest.mark.parametrize('error', [Blocked('b.example', 'policy'), Blocked('b.example A:', 'no'), m.DoesNotExist('policy'), KeyError('b')])
@pytest.mark.parametrize('of', ['get_nameservers', 'transform_fqdn'])
async def test_what_the_other_hooks_raise_passes_as_it_is_for_an_alias_too(nameserver, of, error):
    server = nameserver(alias('b.example'))

    def hook(name, fqdn):
        if (of, fqdn) == (name, b'b.example'):
            raise error
        return fqdn

    async def get_nameservers(fqdn):
        hook('get_nameservers', fqdn)
        yield 1, server.at

    resolve, _ = Resolver(no_host, get_nameservers, transform_fqdn=lambda fqdn: hook('transform_fqdn', fqdn))
    with pytest.raises(type(error)) as caught:
        await resolve('www.example.com', TYPES.A)
    assert caught.value is error


async def test_an_alias_to_what_is_in_the_hosts_file_is_found_there(nameserver):
    async def get_host(fqdn, qtype):
        return ipaddress.ip_address('192.0.2.7') if fqdn == b'b.example' else None

    resolve, _ = resolver_for(nameserver(alias('B.example')), get_host=get_host)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.7']
    with files(hosts='192.0.2.7 b.example'):
        resolve, _ = resolver_for(nameserver(alias('B.example')), get_host=None)
        (address,) = await resolve('www.example.com', TYPES.A)
        assert (str(address), address.expires_at) == ('192.0.2.7', now())


async def test_what_an_alias_leads_to_is_not_asked_for_again_while_it_is_kept(nameserver):
    server = nameserver(a('192.0.2.1', ttl=100), alias('b.example'), alias('b.example'))
    with files(hosts=''):
        resolve, _ = resolver_for(server, get_host=None)
        for name in ('b.example', 'one.example', 'two.example'):
            assert texts(await resolve(name, TYPES.A)) == ['192.0.2.1']
    assert server.names == ['b.example', 'one.example', 'two.example']


@pytest.mark.parametrize('ttl', [0, 20])
async def test_a_loop_of_aliases_over_several_replies_is_an_error(nameserver, ttl):
    server = nameserver(alias('b.example', ttl), alias('www.example.com', ttl))
    server.replies = [
        lambda query: alias('b.example' if str(query.question[0].name).lower().startswith('www') else 'www.example.com', ttl)(query)
    ]
    resolve, _ = resolver_for(server)
    with pytest.raises(m.AliasChainTooLong, match='www.example.com A: .* a loop of aliases: www.example.com → b.example → www.example.com'):
        await resolve('www.example.com', TYPES.A)
    assert len(server.queries) == 2


async def test_more_than_sixteen_aliases_over_all_replies_are_an_error(nameserver):
    def next_alias(query):
        number = int(query.question[0].name.labels[0][1:])
        return alias(f'n{number + 1}.example')(query)

    server = nameserver(next_alias)
    resolve, _ = resolver_for(server)
    with pytest.raises(m.AliasChainTooLong, match='more than 16 aliases'):
        await resolve('n0.example', TYPES.A)
    assert len(server.queries) == 17
    server.replies = [a('192.0.2.1')]
    assert texts(await resolve('n1.example', TYPES.A)) == ['192.0.2.1']


async def test_the_aliases_of_a_reply_with_an_address_count_too(nameserver):
    def chain(start, count, *end):
        return reply(
            f'? 5 IN CNAME {start}0.example.', *(f'{start}{i}.example. 5 IN CNAME {start}{i + 1}.example.' for i in range(count - 1)), *end
        )

    server = nameserver(chain('a', 12), chain('b', 12, 'b11.example. 5 IN A 192.0.2.1'))
    resolve, _ = resolver_for(server)
    with pytest.raises(m.AliasChainTooLong, match='more than 16 aliases'):
        await resolve('www.example.com', TYPES.A)


@pytest.mark.parametrize(
    ('name', 'shown'),
    [
        (r'q\010CRITICAL\032disk\027[2J.example', r'q\010critical\032disk\027[2j.example'),
        (r'\000\127\255.example', r'\000\127\255.example'),
        (r'\092010.example', r'\092010.example'),
        ('', '.'),
    ],
)
async def test_an_alias_of_odd_octets_is_shown_as_in_zone_files(nameserver, caplog, name, shown):  # RFC 1035 §5.1
    server = nameserver(alias(name), refused)
    with system(server), caplog.at_level(logging.DEBUG):
        with pytest.raises(m.ResponseCodeError) as caught:
            await Resolver()[0]('www.example.com', TYPES.A)
    assert str(caught.value).startswith(f'www.example.com A (an alias: {shown}): {shown} A: {server.text}')
    assert any(f'{shown} A: ' in record.getMessage() for record in caplog.records)
    assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_an_error_on_the_way_of_an_alias_names_what_was_asked_for(nameserver):
    server = nameserver(alias('b.example'), servfail)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=1))
    with pytest.raises(m.ResponseCodeError) as caught:
        await resolve('www.example.com', TYPES.A)
    assert str(caught.value) == f'www.example.com A (an alias: b.example): b.example A: {server.text} answered SERVFAIL'
    assert caught.value.rcode == 2


async def test_an_error_on_the_way_of_an_alias_keeps_its_cause(nameserver):
    server = nameserver(lambda query: [alias('b.example')(query), Scripted.close])
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=1))
    with pytest.raises(m.NameserverRefused, match='an alias: b.example') as caught:
        await resolve('www.example.com', TYPES.A)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_a_loop_in_one_reply_is_an_error_that_names_the_nameserver(nameserver):
    server = nameserver(reply('? 5 IN CNAME b.example.', 'b.example. 5 IN CNAME www.example.com.'))
    resolve, _ = resolver_for(server)
    with pytest.raises(m.AliasChainTooLong, match=f'www.example.com A: {server.text} gave a loop'):
        await resolve('www.example.com', TYPES.A)


@pytest.mark.parametrize('replies', [(alias('b.example'), nxdomain), (reply('? 20 IN CNAME b.example.', authority=[SOA], rcode=3),)])
async def test_what_an_alias_leads_to_does_not_exist(nameserver, replies):
    server = nameserver(*replies)
    resolve, _ = resolver_for(server)
    with pytest.raises(m.NameDoesNotExist) as caught:
        await resolve('www.example.com', TYPES.A)
    assert str(caught.value) == f'www.example.com A (an alias: b.example): does not exist: {server.text} answered NXDOMAIN'


async def test_two_names_with_one_alias_ask_for_it_once(nameserver):
    server = nameserver(
        lambda query: (after(0.1, a('192.0.2.1')) if str(query.question[0].name).lower().startswith('end') else alias('end.example'))(query)
    )
    resolve, _ = resolver_for(server)
    results = await asyncio.gather(resolve('one.example', TYPES.A), resolve('two.example', TYPES.A))
    assert [texts(result) for result in results] == [['192.0.2.1']] * 2
    assert sorted(server.names) == ['end.example', 'one.example', 'two.example']


# --- The search list, and resolv.conf -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def redirected(redirect):
    """Nameservers are asked at the address and port that `redirect` makes of their own, since a system's are all at port 53."""
    to_nameserver = m.to_nameserver
    with unittest.mock.patch('aiodnsresolver.to_nameserver', lambda ip, port: to_nameserver(*redirect(ip, port))):
        m.to_set.cache_clear()
        yield
    m.to_set.cache_clear()


@contextlib.contextmanager
def system(*servers, options='', hosts='', search=''):
    """The files of a system whose nameservers are scripted ones: the port alone is not from the file."""
    conf = ''.join(f'nameserver {server.at[0]}\n' for server in servers) + f'search {search}\noptions {options}\n'
    ports = {(server.at[0], 53): server.at for server in servers}
    with files(hosts=hosts, resolv_conf=conf), redirected(lambda ip, port: ports.get((ip, port), (ip, port))):
        yield


def zone(**addresses):
    """Replies from a zone of names (with _ for each dot) and their address; of others, that they do not exist."""

    def find(query):
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        found = addresses.get(name.replace('.', '_'))
        if found is None:
            return nxdomain(query)
        return found(query) if callable(found) else a(found)(query)

    return find


@pytest.mark.parametrize(
    ('name', 'options', 'answers', 'asked'),
    [
        ('db', '', {'db_a_example': '192.0.2.1'}, 'db.a.example'),
        ('db', '', {'db_b_example': '192.0.2.1'}, 'db.a.example db.b.example'),
        ('db', '', {'db': '192.0.2.1'}, 'db.a.example db.b.example db'),
        ('db', 'ndots:0', {'db': '192.0.2.1'}, 'db'),
        ('db.', '', {'db': '192.0.2.1'}, 'db'),
        ('db.c', '', {'db_c_b_example': '192.0.2.1'}, 'db.c db.c.a.example db.c.b.example'),
        ('db.c', 'ndots:2', {'db_c': '192.0.2.1'}, 'db.c.a.example db.c.b.example db.c'),
        ('db', '', {'db_a_example': nodata, 'db_b_example': '192.0.2.1'}, 'db.a.example db.b.example'),
    ],
)
async def test_a_relative_name_is_looked_for_by_the_search_list(nameserver, name, options, answers, asked):
    server = nameserver(zone(**answers))
    with system(server, search='a.example b.example', options=options):
        resolve, _ = Resolver()
        assert texts(await resolve(name, TYPES.A)) == ['192.0.2.1']
    assert server.names == asked.split()


async def test_when_no_candidate_exists_the_error_is_that_of_the_name_as_given(nameserver):
    server = nameserver(zone(db=nodata))
    with system(server, search='a.example b.example'):
        resolve, _ = Resolver()
        with pytest.raises(m.NoRecords) as caught:
            await resolve('db', TYPES.A)
    assert str(caught.value) == (
        f'db A: has no such record: {server.text} answered with no such record; no better with the search list: db.a.example, db.b.example'
    )


async def test_a_temporary_failure_of_a_candidate_ends_the_look_up(nameserver):
    server = nameserver(zone(db_a_example=servfail, db_b_example='192.0.2.1'))
    with system(server, search='a.example b.example'):
        resolve, _ = Resolver()
        with pytest.raises(m.ResponseCodeError, match='db.a.example A'):
            await resolve('db', TYPES.A)


async def test_the_hosts_file_is_asked_for_the_name_as_given_before_anything_is_sent(nameserver):
    server = nameserver(zone(db_a_example='192.0.2.1'))
    with system(server, search='a.example', hosts='192.0.2.7 db\n192.0.2.8 web.a.example'):
        resolve, _ = Resolver()
        assert texts(await resolve('db', TYPES.A)) == ['192.0.2.7']
        assert texts(await resolve('web', TYPES.A)) == ['192.0.2.8']
    assert server.queries == []


async def test_without_options_each_nameserver_has_half_a_second_five_times(nameserver):
    one, two = nameserver(silence), nameserver(silence, address='127.0.0.2')
    with system(one, two):
        resolve, _ = Resolver()
        started = now()
        with pytest.raises(
            m.ResolverTimeout, match=f'{one.text} timed out after 0.5 s .5 times.; {two.text} timed out after 0.5 s .5 times.'
        ):
            await resolve('www.example.com', TYPES.A)
    assert now() == started + 5
    assert [query[2] - started for query in one.queries] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ('options', 'timeout', 'times', 'seconds'),
    [('timeout:2 attempts:3', None, 3, 6), ('timeout:2', None, 5, 10), ('timeout:2', 0.25, 5, 1.25)],
)
async def test_timeout_and_attempts_are_those_of_resolv_conf_or_of_the_caller(nameserver, options, timeout, times, seconds):
    server = nameserver(silence)
    with system(server, options=options):
        resolve, _ = Resolver(timeout=timeout)
        started = now()
        with pytest.raises(m.ResolverTimeout):
            await resolve('www.example.com', TYPES.A)
    assert (len(server.queries), now()) == (times, started + seconds)


async def test_rotate_begins_with_another_nameserver_each_time(nameserver):
    servers = [nameserver(a('192.0.2.1'), address=f'127.0.0.{i}') for i in (1, 2, 3)]
    with system(*servers, options='rotate'):
        resolve, _ = Resolver()
        for i in range(6):
            await resolve(f'n{i}.example', TYPES.A)
    assert [server.names for server in servers] == [
        ['n0.example', 'n3.example'],
        ['n1.example', 'n4.example'],
        ['n2.example', 'n5.example'],
    ]


async def test_in_each_round_that_one_comes_first_whose_failure_is_longest_ago(nameserver):
    one, two = nameserver(silence), nameserver(a('192.0.2.1'), silence, address='127.0.0.2')
    with system(one, two, options='timeout:30 attempts:2'):
        resolve, _ = Resolver()
        await resolve('a.example', TYPES.A)  # the first fails, and comes last for 30 s
        started = now()
        with pytest.raises(m.ResolverTimeout):
            await resolve('b.example', TYPES.A)
    assert [[round(query[2] - started) for query in server.queries[1:]] for server in (one, two)] == [[30, 90], [0, 60]]


@pytest.mark.parametrize(
    ('options', 'transform', 'sent'),
    [('randomize-case:0', mix_case, 'www.example.com'), ('randomize-case:0', bytes.upper, 'WWW.EXAMPLE.COM')],
)
async def test_randomize_case_0_turns_the_mixing_off_but_not_a_transform_of_ones_own(nameserver, options, transform, sent):
    server = nameserver(a('192.0.2.1'))
    with system(server, options=options):
        resolve, _ = Resolver(transform_fqdn=transform)
        await resolve('www.example.com', TYPES.A)
    assert server.queries[0][0] == sent


async def test_changes_of_both_files_are_seen_by_a_resolver_within_a_second(nameserver, monkeypatch, tmp_path):
    one, two = nameserver(a('192.0.2.1', ttl=0)), nameserver(a('192.0.2.2', ttl=0), address='127.0.0.2')
    hosts, resolv_conf = tmp_path / 'hosts', tmp_path / 'resolv.conf'
    monkeypatch.setattr(m, 'HOSTS', str(hosts))
    monkeypatch.setattr(m, 'RESOLV_CONF', str(resolv_conf))
    ports = {server.at[0]: server.at for server in (one, two)}
    hosts.write_text('')
    resolv_conf.write_text('nameserver 127.0.0.1\n')
    with redirected(lambda ip, _: ports[ip]):
        resolve, _ = Resolver()
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        resolv_conf.write_text('nameserver 127.0.0.2 # another\n')
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        await asyncio.sleep(1)
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.2']
        hosts.write_text('192.0.2.7 www.example.com\n')
        await asyncio.sleep(1)
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.7']


async def test_without_files_the_nameserver_of_this_machine_is_asked(nameserver):
    server = nameserver(zone(db='192.0.2.1'))
    with system(server), files():
        resolve, _ = Resolver()
        assert texts(await resolve('db', TYPES.A)) == ['192.0.2.1']


@pytest.mark.parametrize(
    ('bad', 'remembered'), [(silence, True), ('closed', True), (refused, False), (notimp, False), (servfail, False), (formerr, False)]
)
async def test_one_failing_nameserver_slows_only_the_first_look_up_until_it_is_tried_again(nameserver, caplog, bad, remembered):
    caplog.set_level(logging.INFO)
    one, two = nameserver(silence if bad == 'closed' else bad), nameserver(a('192.0.2.1'), address='127.0.0.2')
    if bad == 'closed':
        one.close()
    with system(one, two):
        resolve, _ = Resolver()
        waits = []
        for i, pause in enumerate((0, 0, 0, 29, 1.5, 0)):
            await asyncio.sleep(pause)
            if i == 4 and bad == 'closed':
                break
            if i == 4:
                one.replies = [a('192.0.2.1')]
            started = now()
            await resolve(f'n{i}.example', TYPES.A)
            waits.append(now() - started)
    logged = [record.levelname for record in caplog.records]
    if bad == 'closed':
        assert logged == ['WARNING']
    elif remembered:
        assert one.names == ['n0.example', 'n4.example', 'n5.example']
        assert waits == [0.5 if bad is silence else 0, 0, 0, 0, 0, 0]
        assert logged == ['WARNING', 'INFO']
        assert f'nameserver {one.text} ' in caplog.records[0].getMessage()
    else:
        assert len(one.queries) == 6
        assert logged == []


async def test_when_its_time_has_come_one_query_tries_a_failed_nameserver_and_not_all_that_are_under_way(nameserver):
    one, two = nameserver(silence), nameserver(after(0.01, a('192.0.2.1')), address='127.0.0.2')
    with system(one, two):
        resolve, _ = Resolver()
        await resolve('first.example', TYPES.A)
        await asyncio.sleep(31)
        await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(50)))
    assert one.names == ['first.example', 'n0.example']


async def test_when_the_time_of_several_has_come_each_is_tried_by_one_query(nameserver):
    one, two, good = (nameserver(reply, address=f'127.0.0.{i}') for i, reply in ((1, silence), (2, silence), (3, a('192.0.2.1'))))
    with system(one, two, good):
        resolve, _ = Resolver()
        await resolve('first.example', TYPES.A)
        await asyncio.sleep(31)
        started = now()
        await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(50)))
    assert (one.names[1:], two.names[1:], now() - started) == (['n0.example'], ['n1.example'], 0.5)


async def test_those_who_waited_for_their_turn_ask_by_what_is_known_when_it_comes(nameserver):
    one, two = nameserver(silence), nameserver(a('192.0.2.1'), address='127.0.0.2')
    with system(one, two):
        resolve, _ = Resolver(max_sockets=10)
        started = now()
        await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(500)))
    assert now() == started + 0.5
    assert len(one.queries) == 10


@pytest.mark.timeout(10)
def test_a_zone_that_is_none_is_refused_in_no_time():
    for zone in ('a' * 1_000_000 + ' ', '1' * 1_000_000, '1234567890'):
        with pytest.raises(ValueError, match='is no scope id'):
            m.to_nameserver(f'fe80::1%{zone}', 53)


async def test_a_nameserver_that_cannot_be_reached_is_remembered(nameserver, caplog):
    good = nameserver(a('192.0.2.1'))
    with files(hosts='', resolv_conf='nameserver fe80::1%nowhere\nnameserver 127.0.0.1'), redirected(lambda ip, port: (ip, good.at[1])):
        resolve, _ = Resolver()
        for i in range(2):
            await resolve(f'n{i}.example', TYPES.A)
    (warning,) = caplog.messages
    assert f'nameserver [fe80::1%nowhere]:{good.at[1]} cannot be asked' in warning


@pytest.mark.parametrize('error', [servfail, formerr, lame, truncated_and_empty])
async def test_a_nameserver_that_is_back_with_an_error_that_is_the_names_fault_is_back(nameserver, error):
    one, two = nameserver(silence, error), nameserver(a('192.0.2.1'), address='127.0.0.2')
    with system(one, two):
        resolve, _ = Resolver()
        for i in range(3):
            await resolve(f'n{i}.example', TYPES.A)
            await asyncio.sleep(31 if i == 0 else 0)
    assert one.names == ['n0.example', 'n1.example', 'n2.example']


async def test_of_a_get_nameservers_of_ones_own_nothing_is_remembered(nameserver, caplog):
    one, two = nameserver(silence), nameserver(a('192.0.2.1'))
    resolve, _ = resolver_for(one, two)
    for i in range(3):
        await resolve(f'n{i}.example', TYPES.A)
    assert len(one.queries) == 3
    assert caplog.records == []


async def test_a_late_answer_does_not_make_a_slow_nameserver_the_first_again(nameserver):
    one, two = nameserver(after(0.6, a('192.0.2.1'))), nameserver(after(0.2, a('192.0.2.2')), address='127.0.0.2')
    with system(one, two):
        resolve, _ = Resolver()
        assert texts(await resolve('n0.example', TYPES.A)) == ['192.0.2.1']
        assert texts(await resolve('n1.example', TYPES.A)) == ['192.0.2.2']


# --- Containers: nameservers that behave as Docker's and Kubernetes' do ----------------------------------------------------------------------


def docker(query):
    """Containers have an address of IPv4, for 600 s; of IPv6 they have none, without an SOA; what is above 512 octets is cut off (moby, resolver.go)."""
    name, qtype = query.question[0].name.to_text(omit_final_dot=True).lower(), query.question[0].rdtype
    containers = {'web': ['172.18.0.2'], 'big': [f'172.18.1.{i}' for i in range(40)]}
    if name not in containers:
        return zone(www_example_com='192.0.2.1')(query)
    if qtype != TYPES.A:
        return nodata_without_soa(query)
    wire = a(*containers[name], ttl=600)(query)
    fitting, flags = containers[name], dns.flags.RA
    while len(wire) > 512:
        fitting, flags = fitting[:-1], dns.flags.RA | dns.flags.TC
        wire = reply(*(f'? 600 IN A {address}' for address in fitting), flags=flags)(query)
    return wire


@pytest.mark.parametrize(
    ('name', 'search', 'asked'),
    [
        ('web', '', ['web']),
        ('web', 'lan.example', ['web']),  # Docker copies what the host searches
        ('Web', '', ['web']),
        ('www.example.com', 'lan.example', ['www.example.com']),
        ('big', '', ['big']),
    ],
)
async def test_docker_is_asked_once_for_names_of_containers_and_others(nameserver, name, search, asked):
    server = nameserver(docker, address='127.0.0.11')
    with system(server, options='ndots:0', search=search):
        resolve, _ = Resolver()
        addresses = await resolve(name, TYPES.A)
        assert server.names == asked
        assert all(isinstance(address, IPv4AddressExpiresAt) for address in addresses)
        if name == 'big':
            assert [str(address) for address in addresses] == [f'172.18.1.{i}' for i in range(30)]  # those that 512 octets have room for
            assert len(server.queries) == 1  # and TC with records in it is an answer


async def test_docker_gives_a_container_no_address_of_ipv6_and_that_is_not_kept_nor_in_the_way(nameserver):
    server = nameserver(docker, address='127.0.0.11')
    with system(server, options='ndots:0'):
        resolve, _ = Resolver()
        for _ in range(3):
            four, six = await asyncio.gather(resolve('web', TYPES.A), resolve('web', TYPES.AAAA), return_exceptions=True)
            assert texts(four) == ['172.18.0.2']
            assert isinstance(six, m.NoRecords)
        assert [qtype for _, qtype, *_ in server.queries] == [1, 28, 28, 28]
        assert 599 < four[0].expires_at - now() <= 600


async def test_a_name_that_docker_does_not_know_is_looked_for_where_the_host_searches(nameserver):
    server = nameserver(docker, address='127.0.0.11')
    with system(server, options='ndots:0', search='lan.example'):
        resolve, _ = Resolver()
        with pytest.raises(m.NameDoesNotExist, match=r'nothing A: does not exist.* search list: nothing.lan.example'):
            await resolve('nothing', TYPES.A)
    assert server.names == ['nothing', 'nothing.lan.example']


KUBERNETES = {'search': 'prod.svc.cluster.local svc.cluster.local cluster.local', 'options': 'ndots:5'}


def cluster(query):
    """Services have TTL 5, and what there is not is so for 5 s (CoreDNS, plugin kubernetes)."""
    name = query.question[0].name.to_text(omit_final_dot=True).lower()
    services = {'db.prod.svc.cluster.local': '10.96.0.7', 'api.other.svc.cluster.local': '10.96.0.8'}
    if name == 'www.example.com':
        return a('192.0.2.1')(query)
    soa = ['cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5']
    return a(services[name], ttl=5)(query) if name in services else reply(authority=soa, rcode=3)(query)


@pytest.mark.parametrize(
    ('name', 'queries', 'last'),
    [
        ('db', 1, 'db.prod.svc.cluster.local'),
        ('api.other', 2, 'api.other.svc.cluster.local'),
        ('db.prod.svc', 3, 'db.prod.svc.cluster.local'),
        ('db.prod.svc.cluster.local', 4, 'db.prod.svc.cluster.local'),
        ('db.prod.svc.cluster.local.', 1, 'db.prod.svc.cluster.local'),
        ('www.example.com', 4, 'www.example.com'),
        ('www.example.com.', 1, 'www.example.com'),
    ],
)
async def test_kubernetes_is_asked_by_its_search_list_and_the_final_dot_saves_it(nameserver, name, queries, last):
    server = nameserver(cluster, address='127.0.0.10')
    with system(server, **KUBERNETES):
        resolve, _ = Resolver()
        await resolve(name, TYPES.A)
        assert (len(server.queries), server.names[-1]) == (queries, last)
        await resolve(name, TYPES.A)
        assert len(server.queries) == queries  # neither what there is nor what there is not is asked for again
        await asyncio.sleep(5)
        await resolve(name, TYPES.A)
        assert len(server.queries) == 2 * queries - (last == 'www.example.com')  # whose own TTL is longer


# --- The bound on sockets -------------------------------------------------------------------------------------------------------------------


def count_sockets(monkeypatch):
    """The number of sockets that the module has open, at each time it opens one."""
    counts, opened = [], set()

    class Counted(socket.socket):
        def __init__(self, *args):
            super().__init__(*args)
            opened.add(self)
            counts.append(len(opened))

        def close(self):
            opened.discard(self)
            super().close()

    monkeypatch.setattr(m, 'Socket', Counted)
    return counts


@pytest.mark.parametrize('max_sockets', [1, 2, 7])
async def test_sockets_are_never_more_than_max_sockets_and_all_look_ups_end(nameserver, monkeypatch, max_sockets):
    good, silent = nameserver(a('192.0.2.1')), nameserver(silence)
    counts = count_sockets(monkeypatch)
    resolve, _ = resolver_for(silent, good, max_sockets=max_sockets)
    results = await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(20)))
    assert len(results) == 20
    assert max(counts) == min(max_sockets, 7)


async def test_look_ups_wait_for_their_turn_in_order_and_their_time_starts_when_they_are_sent(nameserver):
    server = nameserver(silence)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=1), max_sockets=2)
    started = now()
    results = await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(6)), return_exceptions=True)
    assert {type(result) for result in results} == {m.ResolverTimeout}
    assert [(name.lower(), sent - started) for name, _, sent, *_ in server.queries] == [
        ('n0.example', 0), ('n1.example', 0), ('n2.example', 0.5), ('n3.example', 0.5), ('n4.example', 1), ('n5.example', 1),
    ]  # fmt: skip
    assert now() == started + 1.5


async def test_of_a_set_larger_than_max_sockets_the_first_are_asked(nameserver):
    servers = [nameserver(silence), nameserver(silence), nameserver(a('192.0.2.1'))]
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, *(server.at for server in servers))), max_sockets=2)
    with pytest.raises(m.ResolverTimeout):
        await resolve('www.example.com', TYPES.A)
    assert [len(server.queries) for server in servers] == [1, 1, 0]


async def test_a_set_waits_until_it_can_be_asked_as_a_whole(nameserver):
    servers = [nameserver(after(0.1, servfail)), nameserver(after(0.2, a('192.0.2.1')))]
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, *(server.at for server in servers))), max_sockets=3)
    started = now()
    await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(4)))
    assert now() == pytest.approx(started + 0.5)
    assert [query[2] for query in servers[0].queries] == [query[2] for query in servers[1].queries]


async def test_the_rest_of_a_set_is_asked_when_those_for_which_there_were_turns_are_out(nameserver):
    silent, refusing, good = nameserver(silence), nameserver(refused), nameserver(a('192.0.2.1'))

    async def get_nameservers(fqdn):
        yield (9 if fqdn == b'other.example' else 0.5), silent.at
        yield 0.5, refusing.at, good.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=2)
    other = asyncio.ensure_future(resolve('other.example', TYPES.A))
    await asyncio.sleep(0.1)
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == started + 0.5
    await other


async def test_at_the_limit_a_look_up_gives_up_its_own_oldest_socket_and_waits_for_nobody(nameserver):
    slow, good = nameserver(after(0.7, a('192.0.2.66'))), nameserver(after(0.3, a('192.0.2.1')))
    resolve, _ = resolver_for(slow, good, max_sockets=1)
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == started + 0.8


async def test_turns_of_a_set_that_is_out_are_not_kept_for_a_smaller_one(nameserver):
    bad, silent, good = nameserver(refused), nameserver(silence), nameserver(a('192.0.2.1'))

    async def get_nameservers(fqdn):
        if fqdn == b'good.example':
            yield 1, good.at
        yield 1, bad.at, bad.at
        yield 10, silent.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=2)
    first = asyncio.ensure_future(resolve('first.example', TYPES.A))
    await asyncio.sleep(0.1)
    started = now()
    await resolve('good.example', TYPES.A)
    assert (now(), len(silent.queries)) == (started, 1)
    with pytest.raises(m.ResolverTimeout):
        await first


async def test_sockets_that_are_open_for_a_late_answer_alone_are_in_nobodys_way(nameserver):
    server = nameserver(lambda query: [] if 'silent' in str(query.question[0].name).lower() else a('192.0.2.1')(query))
    late = nameserver(after(0.9, a('192.0.2.1')))

    async def get_nameservers(fqdn):
        for _ in range(5):
            yield 0.5, late.at if fqdn == b'late.example' else server.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=6)
    started = now()
    silent = [asyncio.ensure_future(resolve(f'silent{i}.example', TYPES.A)) for i in range(2)]
    is_late = asyncio.ensure_future(resolve('late.example', TYPES.A))
    await asyncio.sleep(0.6)  # each of the three has two sockets now, and nobody else waits for one
    await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(3)))
    assert now() == started + 0.6
    await is_late
    assert now() == started + 1.4  # by its second query, whose socket was left open
    assert {type(error) for error in await asyncio.gather(*silent, return_exceptions=True)} == {m.ResolverTimeout}
    assert now() == started + 2.5


async def test_a_larger_set_after_a_smaller_one_gives_up_what_it_holds_and_asks_the_first(nameserver):
    silent, good, other = nameserver(silence), nameserver(a('192.0.2.1')), nameserver(silence)
    blocker = nameserver(after(9, a('192.0.2.9')))

    async def get_nameservers(fqdn):
        if fqdn == b'blocker.example':
            yield 10, blocker.at
        else:
            yield 0.5, silent.at
            yield 0.5, good.at, other.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=2)
    blocking = asyncio.ensure_future(resolve('blocker.example', TYPES.A))
    await asyncio.sleep(0)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert other.queries == []
    await blocking


class Shortage:
    """Lets so many sockets be open at once, as the system does whose table of open files is full."""

    def __init__(self, monkeypatch, most, code=errno.EMFILE):
        self.open, self.most, self.refused = set(), most, 0
        shortage = self

        class Scarce(socket.socket):
            def __init__(self, *args):
                if len(shortage.open) >= shortage.most:
                    shortage.refused += 1
                    raise OSError(code, 'Too many open files')
                super().__init__(*args)
                shortage.open.add(self)

            def close(self):
                shortage.open.discard(self)
                super().close()

        monkeypatch.setattr(m, 'Socket', Scarce)


@pytest.mark.parametrize('code', [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
async def test_a_look_up_for_which_there_is_no_socket_waits_for_another_to_end(nameserver, monkeypatch, code):
    server = nameserver(after(0.1, a('192.0.2.1')))
    shortage = Shortage(monkeypatch, 3, code)
    resolve, _ = resolver_for(server)
    started = now()
    await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(30)))
    assert now() == pytest.approx(started + 1)
    assert shortage.refused < 60


async def test_without_any_socket_the_error_says_why(nameserver, monkeypatch):
    server = nameserver(a('192.0.2.1'))
    Shortage(monkeypatch, 0)
    resolve, _ = resolver_for(server)
    with pytest.raises(m.NameserverUnreachable, match='cannot be asked: Too many open files') as caught:
        await resolve('www.example.com', TYPES.A)
    assert caught.value.errno == errno.EMFILE


async def test_short_of_sockets_a_set_is_asked_in_part_and_an_old_socket_given_up_for_a_new_one(nameserver, monkeypatch):
    one, two, good = nameserver(silence), nameserver(silence), nameserver(a('192.0.2.1'))
    Shortage(monkeypatch, 1)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, one.at, two.at), (1, good.at)))
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert (len(one.queries), len(two.queries)) == (1, 0)


async def test_short_of_sockets_the_rest_of_a_set_is_asked_when_the_first_is_out(nameserver, monkeypatch):
    refusing, good, silent = nameserver(refused), nameserver(a('192.0.2.1')), nameserver(silence)

    async def get_nameservers(fqdn):
        if fqdn == b'other.example':
            yield 9, silent.at
        yield 0.5, refusing.at, good.at

    Shortage(monkeypatch, 2)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    other = asyncio.ensure_future(resolve('other.example', TYPES.A))
    await asyncio.sleep(0.1)
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == started
    await other


async def test_short_of_sockets_only_those_of_a_set_that_were_asked_are_told_of(nameserver, monkeypatch):
    one, two = nameserver(silence), nameserver(silence)
    Shortage(monkeypatch, 1)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, one.at, two.at)))
    with pytest.raises(m.ResolverTimeout) as caught:
        await resolve('www.example.com', TYPES.A)
    assert str(caught.value) == f'www.example.com A: {one.text} timed out after 1 s'


@pytest.mark.parametrize('count', [1, 5])
@pytest.mark.parametrize('code', [errno.EAGAIN, errno.ENETUNREACH, errno.EPERM])
async def test_an_error_of_send_puts_the_nameserver_out_and_leaves_no_socket(nameserver, monkeypatch, code, count):
    bad, good = nameserver(silence), nameserver(a('192.0.2.1'))

    class Failing(socket.socket):
        def send(self, data):
            if self.getpeername() == bad.at:
                raise OSError(code, os.strerror(code))
            return super().send(data)

    monkeypatch.setattr(m, 'Socket', Failing)
    resolve, _ = resolver_for(bad, good)
    started = now()
    found = await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(count)))
    assert [texts(addresses) for addresses in found] == [['192.0.2.1']] * count
    assert now() == started


async def test_of_several_queries_the_first_leaves_at_once_and_the_others_together_at_the_end_of_the_step(clock, monkeypatch):
    sent = []

    class Silent(socket.socket):
        def send(self, data):
            self.getpeername()  # an error where it is closed
            sent.append(data[13:14].lower())

    monkeypatch.setattr(m, 'Socket', Silent)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, ('192.0.2.1', 53), ('192.0.2.2', 53))))
    first, gone, third = (resolve(name, TYPES.A) for name in 'abc')
    for coroutine in (first, gone, third):
        coroutine.send(None)
    assert sent == [b'a', b'a']
    gone.close()
    await asyncio.sleep(0)
    assert sent == [b'a', b'a', b'c', b'c']  # and none for who has gone meanwhile
    first.close()
    third.close()
    await asyncio.sleep(1)


class FullBuffers:
    """Has room for so many queries; more can be sent when sockets are closed."""

    def __init__(self, monkeypatch, room):
        self.room, self.under_way, self.refused = room, set(), 0
        buffers = self

        class Full(m.Socket):
            def send(self, data):
                if len(buffers.under_way) >= buffers.room:
                    buffers.refused += 1
                    raise OSError(errno.ENOBUFS, 'No buffer space available')
                buffers.under_way.add(self.fileno())
                return super().send(data)

            def close(self):
                buffers.under_way.discard(self.fileno())
                super().close()

        monkeypatch.setattr(m, 'Socket', Full)


async def test_queries_for_which_there_is_no_room_leave_when_others_are_over(nameserver, monkeypatch):
    server = nameserver(after(0.1, a('192.0.2.1')))
    buffers = FullBuffers(monkeypatch, 3)
    resolve, _ = resolver_for(server)
    started = now()
    await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(12)))
    assert now() == pytest.approx(started + 0.4)
    assert server.names == [f'n{i}.example' for i in range(12)]
    assert 0 < buffers.refused < 12


async def test_a_query_for_which_there_was_no_room_in_all_its_time_is_told_of_as_such_and_never_sent(nameserver, monkeypatch):
    server = nameserver(after(3, a('192.0.2.1')))

    async def get_nameservers(fqdn):
        yield 9 if fqdn == b'a.example' else 1, server.at

    FullBuffers(monkeypatch, 1)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    first = asyncio.ensure_future(resolve('a.example', TYPES.A))
    await asyncio.sleep(0.5)
    with pytest.raises(m.NameserverUnreachable) as caught:
        await resolve('b.example', TYPES.A)
    assert str(caught.value) == f'b.example A: {server.text} cannot be asked: No buffer space available'
    assert (now(), caught.value.errno) == (1001.5, errno.ENOBUFS)
    await first
    assert server.names == ['a.example']


async def test_without_any_room_to_send_the_error_says_so(nameserver, monkeypatch):
    FullBuffers(monkeypatch, 0)
    resolve, _ = resolver_for(nameserver(a('192.0.2.1')))
    results = await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(3)), return_exceptions=True)
    assert {type(result) for result in results} == {m.NameserverUnreachable}
    assert str(results[2]).endswith('cannot be asked: No buffer space available (5 times)')


async def test_with_nothing_under_way_to_wait_for_it_is_an_error_that_there_is_no_room_to_send(nameserver, monkeypatch):
    server = nameserver(silence)
    buffers = FullBuffers(monkeypatch, 1)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, server.at)))
    under_way = resolve('a.example', TYPES.A)
    under_way.send(None)
    tasks = [asyncio.ensure_future(resolve(name, TYPES.A)) for name in ('b.example', 'c.example')]
    await asyncio.sleep(0.5)
    assert buffers.refused == 1
    buffers.room = 0
    under_way.close()
    started = now()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {m.NameserverUnreachable}
    assert now() == started
    await asyncio.sleep(1)


# --- The cache, and who waits for whom --------------------------------------------------------------------------------------------------------


async def test_an_answer_is_kept_until_the_instant_it_expires_and_comes_without_a_yield(nameserver, get_host):
    server = nameserver(a('192.0.2.1', ttl=20))
    resolve, _ = resolver_for(server, get_host=get_host)
    first = await resolve('www.example.com', TYPES.A)
    await asyncio.sleep(19.75)
    kept = resolve('WWW.Example.com.', TYPES.A)
    with pytest.raises(StopIteration) as stopped:
        kept.send(None)
    assert stopped.value.value is first
    assert len(server.queries) == 1
    await asyncio.sleep(0.25)
    await resolve('www.example.com', TYPES.A)
    assert len(server.queries) == 2


async def test_get_host_is_asked_before_what_is_kept(nameserver):
    hosts = {}

    async def get_host(fqdn, qtype):
        return hosts.get(fqdn)

    server = nameserver(a('192.0.2.1'))
    resolve, _ = resolver_for(server, get_host=get_host)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    hosts[b'www.example.com'] = ipaddress.ip_address('192.0.2.7')
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.7']
    hosts.clear()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert len(server.queries) == 1


async def test_an_answer_with_ttl_0_goes_to_those_who_wait_and_is_not_kept(nameserver):
    server = nameserver(after(0.1, a('192.0.2.1', ttl=0)))
    resolve, _ = resolver_for(server)
    results = await asyncio.gather(*(resolve('www.example.com', TYPES.A) for _ in range(5)))
    assert [texts(result) for result in results] == [['192.0.2.1']] * 5
    await resolve('www.example.com', TYPES.A)
    assert len(server.queries) == 2


async def test_types_and_names_are_kept_apart(nameserver, get_host):
    server = nameserver(lambda query: a('192.0.2.1' if query.question[0].rdtype == 1 else '2001:db8::1')(query))
    resolve, _ = resolver_for(server, get_host=get_host)
    for _ in range(3):
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert texts(await resolve('www.example.com', TYPES.AAAA)) == ['2001:db8::1']
        assert texts(await resolve('example.com', TYPES.A)) == ['192.0.2.1']
    assert len(server.queries) == 3


@pytest.mark.parametrize(
    ('reply_', 'error', 'seconds'),
    [
        (nxdomain, m.NameDoesNotExist, 20),
        (nodata, m.NoRecords, 20),
        (reply(authority=[SOA_TTL_300], rcode=3), m.NameDoesNotExist, 60),
        (nodata_without_soa, m.NoRecords, 0),
        (reply(rcode=3), m.NameDoesNotExist, 0),
        (reply(authority=[SOA], rcode=3, flags=dns.flags.TC), m.NameDoesNotExist, 0),
        (servfail, m.ResponseCodeError, 0),
    ],
)
async def test_that_there_is_none_is_kept_as_long_as_the_soa_says(nameserver, get_host, reply_, error, seconds):  # RFC 2308 §5
    server = nameserver(reply_)
    resolve, _ = Resolver(get_host=get_host, get_nameservers=rounds(server, times=1))
    said = set()
    for pause in (0, seconds - 0.25, 0.25) if seconds else (0, 0):
        await asyncio.sleep(pause)
        with pytest.raises(error) as caught:
            await resolve('www.example.com', TYPES.A)
        said.add(str(caught.value))
    assert len(server.queries) == 2
    assert len(said) == 1
    assert server.text in said.pop()


async def test_an_error_raised_again_from_the_cache_does_not_grow(nameserver):
    resolve, _ = resolver_for(nameserver(nxdomain))
    lengths = set()
    for _ in range(5):
        with pytest.raises(m.NameDoesNotExist) as caught:
            await resolve('www.example.com', TYPES.A)
        lengths.add(len(caught.traceback))
    assert len(lengths) <= 2


async def test_an_error_goes_to_all_who_wait_and_does_not_grow(nameserver):
    server = nameserver(after(0.1, servfail))
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=1))
    lengths = []

    async def look_up():
        try:
            await resolve('www.example.com', TYPES.A)
        except m.ResponseCodeError as error:
            traceback, count = error.__traceback__, 0
            while traceback is not None:
                traceback, count = traceback.tb_next, count + 1
            lengths.append(count)

    await asyncio.gather(*(look_up() for _ in range(20)))
    assert len(server.queries) == 1
    assert len(lengths) == 20
    assert len(set(lengths[1:])) == 1


async def test_what_was_in_the_cache_before_a_failed_look_up_is_there_after_it(nameserver):
    server = nameserver(a('192.0.2.1'), servfail)
    resolve, _ = resolver_for(server)
    kept = await resolve('www.example.com', TYPES.A)
    for name, qtype, error in (
        ('www.example.com', TYPES.AAAA, m.ResponseCodeError),
        ('a..b', TYPES.A, m.InvalidName),
        ('www.example.com', 99, ValueError),
    ):
        with pytest.raises(error):
            await resolve(name, qtype)
    assert await resolve('www.example.com', TYPES.A) is kept


async def test_the_cache_is_bounded_and_the_least_recently_used_goes_first(nameserver):
    server = nameserver(a('192.0.2.1'))
    resolve, _ = resolver_for(server, max_cache_size=2)
    for name in ('a.example', 'b.example', 'a.example', 'c.example', 'a.example', 'b.example'):
        await resolve(name, TYPES.A)
    assert server.names == ['a.example', 'b.example', 'c.example', 'b.example']


class PlainCache:
    """What a cache by TTL that drops the least recently used is expected to do, written down as plainly as can be."""

    def __init__(self, size, ttl):
        self.size, self.ttl = size, ttl
        self.kept = {}  # the least recently used first: name -> (number of the query, when it expires)
        self.queries = 0

    def get(self, name, now):
        number, expires_at = self.kept.pop(name, (0, 0))
        if now >= expires_at:
            self.queries += 1
            number, expires_at = self.queries, now + self.ttl
        self.kept[name] = number, expires_at
        if len(self.kept) > self.size:
            del self.kept[next(iter(self.kept))]
        return number


EXISTING = 'a.example', 'b.example', 'c.example', 'db.lan.example'
STEPS = st.lists(
    st.one_of(
        st.sampled_from(['a.example', 'A.example', 'b.example', 'b.example.', 'c.example', 'db', 'DB']), st.sampled_from([0.25, 1, 2, None])
    ),
    min_size=10,
    max_size=40,
)


def compare_with_plain_cache(steps, size, search=()):
    """A step is a name to resolve, a number of seconds to pass, or None: the cache is cleared."""

    def expected(plain, name, now):
        for fqdn in m.candidates(name, search, 1)[1]:
            number = plain.get(fqdn.decode(), now)
            if fqdn.decode() in EXISTING:
                return [f'192.0.2.{number}']
        return None

    async def go():
        clock, plain, numbers = Clock(asyncio.get_running_loop()), PlainCache(size, ttl=2), itertools.count(1)

        def reply_(query):
            address = a(f'192.0.2.{next(numbers)}', ttl=2)
            exists = query.question[0].name.to_text(omit_final_dot=True).lower() in EXISTING
            return (address if exists else reply(authority=['? 2 IN SOA ns.example. admin.example. 1 2 3 4 2'], rcode=3))(query)

        server = Scripted('127.0.0.1', [reply_])
        with system(server, search=' '.join(domain.decode() for domain in search)):
            resolve, clear_cache = Resolver(max_cache_size=size)
            for step in steps:
                if step is None:
                    clear_cache()
                    plain.kept.clear()
                elif isinstance(step, str):
                    try:
                        found = texts(await resolve(step, TYPES.A))
                    except m.NameDoesNotExist:
                        found = None
                    assert found == expected(plain, step, clock.now)
                else:
                    await asyncio.sleep(step)
            assert len(server.queries) == plain.queries
        server.close()
        await asyncio.sleep(10)  # until nothing of it is open

    run(go())


@hypothesis.given(STEPS, st.sampled_from([0, 1, 2, 3]))
@hypothesis.example(['a.example'] * 3 + ['b.example'] * 3 + ['a.example', 'c.example', 'a.example', 'b.example', 'c.example'], 2)
@hypothesis.example(['a.example', 1, 0.25, 'a.example', 'a.example', 0.25, 0.25, 0.25, 'a.example'], 3)
@hypothesis.example(['a.example', 'a.example', 'A.example', 'A.example', None, 'a.example', 'A.example'], 1)
def test_names_asked_for_again_and_again_are_kept_as_by_a_plain_cache(steps, size):
    compare_with_plain_cache(steps, size)


@hypothesis.given(STEPS, st.sampled_from([0, 1, 2, 3, 4, 100]))
@hypothesis.example(['db.lan.example', 1, 'db', 'db', 1, 'db', 'db', 1, 'db', 'db'], 100)
@hypothesis.example(['db.zone.example.', 1, 0.25, 'db', 'db', 0.25, 0.25, 'db', 0.25, 'db', 'db'], 100)
@hypothesis.example(['db', 'db', 'a.example', 'a.example', 'db', 'b.example', 'db'], 3)
@hypothesis.example(['db', 'db', 'db', 'a.example', 'db.lan.example'], 2)
def test_names_of_a_search_list_asked_for_again_and_again_are_kept_as_by_a_plain_cache(steps, size):
    compare_with_plain_cache(steps, size, (b'zone.example', b'lan.example'))


async def test_a_name_asked_for_again_and_again_is_found_in_the_hosts_file_a_second_after_it_came_there(nameserver, monkeypatch, tmp_path):
    path = tmp_path / 'hosts'
    monkeypatch.setattr(m, 'HOSTS', str(path))
    path.write_text('192.0.2.9 other.example')
    resolve, _ = Resolver(get_nameservers=rounds(nameserver(a('192.0.2.1'))))
    for pause in (0, 0, 0.5, 0):
        await asyncio.sleep(pause)
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    path.write_text('192.0.2.9 www.example.com')
    await asyncio.sleep(0.25)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    await asyncio.sleep(0.25)
    for _ in range(3):
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.9']


async def test_a_name_asked_for_again_and_again_is_of_the_search_list_a_second_after_there_was_one(nameserver, monkeypatch, tmp_path):
    path, server = tmp_path / 'resolv.conf', nameserver(a('192.0.2.1'))
    monkeypatch.setattr(m, 'RESOLV_CONF', str(path))
    monkeypatch.setattr(m, 'HOSTS', str(tmp_path / 'hosts'))
    path.write_text('nameserver 127.0.0.1')
    resolve, _ = Resolver()
    with redirected(lambda ip, port: server.at):
        await resolve('192.0.2.7', TYPES.A)  # which looks at resolv.conf alone: at the hosts file half a second later
        await asyncio.sleep(0.5)
        for _ in range(3):
            await resolve('x', TYPES.A)
        path.write_text('nameserver 127.0.0.1\nsearch a.example')
        await asyncio.sleep(0.5)
        await resolve('x', TYPES.A)
    assert server.names == ['x', 'x.a.example']


async def test_a_clock_that_is_put_back_lets_a_name_asked_for_again_and_again_be_found_in_the_hosts_file(
    nameserver, clock, monkeypatch, tmp_path
):
    path = tmp_path / 'hosts'
    monkeypatch.setattr(m, 'HOSTS', str(path))
    resolve, _ = Resolver(get_nameservers=rounds(nameserver(a('192.0.2.1'))))
    clock.now += 10
    for _ in range(3):
        await resolve('www.example.com', TYPES.A)
    path.write_text('192.0.2.9 www.example.com')
    clock.now -= 10
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.9']


async def test_a_clock_that_is_put_back_to_before_an_answer_expired_does_no_harm(nameserver, clock):
    resolve, _ = Resolver(get_nameservers=rounds(nameserver(a('192.0.2.1'), servfail), times=1))
    for _ in range(3):
        await resolve('www.example.com', TYPES.A)
    for later in 100, -100:
        clock.now += later
        with pytest.raises(m.ResponseCodeError):
            await resolve('WWW.example.com', TYPES.A)
    with pytest.raises(m.ResponseCodeError):
        await resolve('www.example.com', TYPES.A)
    clock.now += 101  # so that the timers of that time go off


@pytest.mark.parametrize('name', ['db', 'db.lan.example'])
async def test_a_name_asked_for_again_and_again_goes_the_long_way_once_a_second(nameserver, name):
    with system(nameserver(zone(db_lan_example='192.0.2.1')), search='zone.example lan.example'):
        resolve, _ = Resolver()
        await resolve(name, TYPES.A)
        with unittest.mock.patch('aiodnsresolver.candidates', wraps=m.candidates) as long_way:
            for times in 1, 2:
                for pause in (0, 0, 0.75):
                    await resolve(name, TYPES.A)
                    await asyncio.sleep(pause)
                assert long_way.call_count == times
                await asyncio.sleep(0.25)


async def test_an_alias_to_nothing_in_a_search_list_is_followed_again_when_it_expires(nameserver):
    exists = zone(db_lan_example='192.0.2.1', new_example='192.0.2.2')
    link = {'db.zone.example': alias('old.example', ttl=1)}
    server = nameserver(lambda query: link.get(query.question[0].name.to_text(omit_final_dot=True).lower(), exists)(query))
    with system(server, search='zone.example lan.example'):
        resolve, _ = Resolver()
        await resolve('db.lan.example', TYPES.A)
        await asyncio.sleep(0.3)  # so that the files are not looked at again just when the alias expires
        for _ in range(5):
            assert texts(await resolve('db', TYPES.A)) == ['192.0.2.1']
            await asyncio.sleep(0.2)
        link['db.zone.example'] = alias('new.example')
        assert texts(await resolve('db', TYPES.A)) == ['192.0.2.2']


async def test_spellings_of_a_name_do_not_pile_up(nameserver):
    resolve, _ = Resolver(get_nameservers=rounds(nameserver(a('192.0.2.1'))), max_cache_size=5)
    sizes = set()
    for letters in itertools.product('aA', repeat=5):
        await resolve(''.join(letters), TYPES.A)
        await resolve('localhost', TYPES.A)  # which is in no cache
        sizes.add(len(cache_of_this_loop().shortcuts))
    assert sizes == {0, 1, 2, 3, 4, 5}


async def test_an_argument_without_a_hash_is_refused_like_any_other_after_names_were_asked_for_again_and_again(nameserver):
    resolve, _ = Resolver(get_nameservers=rounds(nameserver(a('192.0.2.1'))))
    for _ in range(3):
        await resolve('www.example.com', TYPES.A)
    for name, qtype, error in (('www.example.com', [], ValueError), (['www.example.com'], TYPES.A, TypeError)):
        with pytest.raises(error, match='is none'):
            await resolve(name, qtype)


def cache_of_this_loop():
    (cache,) = [found for found in gc.get_objects() if isinstance(found, m.Cache) and found.loop is asyncio.get_running_loop()]
    return cache


@pytest.mark.parametrize('size', [0, 5])
async def test_expired_answers_do_not_pile_up(nameserver, size):
    server = nameserver(a('192.0.2.1', ttl=1))
    resolve, _ = resolver_for(server, max_cache_size=size)
    for i in range(20):
        await resolve(f'n{i}.example', TYPES.A)
        await asyncio.sleep(2)
    assert len(cache_of_this_loop().answers) == size


async def test_clear_cache_empties_it(nameserver):
    server = nameserver(a('192.0.2.1'), a('192.0.2.2'))
    resolve, clear_cache = resolver_for(server)
    clear_cache()
    await resolve('www.example.com', TYPES.A)
    assert clear_cache() is None
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.2']


async def test_a_query_in_flight_when_the_cache_is_cleared_answers_those_who_wait_and_nobody_else(nameserver):
    server = nameserver(after(0.2, a('192.0.2.1')), after(0.2, a('192.0.2.2')))
    resolve, clear_cache = resolver_for(server)
    early = [asyncio.ensure_future(resolve('www.example.com', TYPES.A)) for _ in range(3)]
    await asyncio.sleep(0.1)
    clear_cache()
    later = asyncio.ensure_future(resolve('www.example.com', TYPES.A))
    assert [texts(result) for result in await asyncio.gather(*early)] == [['192.0.2.1']] * 3
    assert texts(await later) == ['192.0.2.2']
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.2']
    assert len(server.queries) == 2


async def test_those_who_ask_the_same_at_once_cost_one_query(nameserver):
    server = nameserver(after(0.1, a('192.0.2.1')))
    resolve, _ = resolver_for(server)
    results = await asyncio.gather(*(resolve('www.example.com', TYPES.A) for _ in range(1000)))
    assert all(result is results[0] for result in results)
    assert len(server.queries) == 1


@pytest.mark.parametrize('waiting', [1, 2, 100])
async def test_a_leader_who_is_cancelled_costs_one_new_query_whatever_the_number_of_waiters(nameserver, waiting):
    server = nameserver(after(0.2, a('192.0.2.1')))
    resolve, _ = resolver_for(server)
    leader, *others = [asyncio.ensure_future(resolve('www.example.com', TYPES.A)) for _ in range(1 + waiting)]
    await asyncio.sleep(0.1)
    leader.cancel()
    results = await asyncio.gather(*others)
    assert leader.cancelled()
    assert [texts(result) for result in results] == [['192.0.2.1']] * waiting
    assert len(server.queries) == 2
    await resolve('www.example.com', TYPES.A)
    assert len(server.queries) == 2


async def half_answered(nameserver, count):
    """A nameserver, a `resolve`, and the tasks of so many who have waited for the same name for half the time that its answer takes."""
    server = nameserver(after(0.2, a('192.0.2.1')))
    resolve, _ = resolver_for(server)
    tasks = [asyncio.ensure_future(resolve('www.example.com', TYPES.A)) for _ in range(count)]
    await asyncio.sleep(0.1)
    return server, resolve, tasks


async def test_the_lead_goes_to_him_who_waits_longest(nameserver):
    server, _, tasks = await half_answered(nameserver, 4)
    tasks[0].cancel()
    await asyncio.sleep(0.1)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(server.queries) == 3


async def test_a_waiter_who_is_cancelled_touches_nobody(nameserver):
    server, _, tasks = await half_answered(nameserver, 4)
    tasks[1].cancel()
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, tuple) for result in results] == [True, False, True, False]
    assert len(server.queries) == 1


async def test_all_are_cancelled_and_the_next_asks_anew(nameserver):
    server, resolve, tasks = await half_answered(nameserver, 5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert len(server.queries) == 2


@pytest.mark.parametrize('awaits', ['socket', 'hook'])
async def test_a_leader_whose_coroutine_is_closed_by_hand_hands_over(nameserver, awaits):
    server = nameserver(after(0.2, a('192.0.2.1')))

    async def get_nameservers(_):
        if awaits == 'hook':
            await asyncio.sleep(0.1)
        yield 5, server.at

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    if awaits == 'hook' and sys.version_info < (3, 13):
        # Before 3.13 the generator cannot be closed by whoever drives it while it awaits; the loop's finalizer tries, and fails.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    leader = resolve('www.example.com', TYPES.A)
    leader.send(None)
    follower = asyncio.ensure_future(resolve('www.example.com', TYPES.A))
    gone = resolve('www.example.com', TYPES.A)
    gone.send(None)
    gone.close()
    await asyncio.sleep(0)
    leader.close()
    assert texts(await follower) == ['192.0.2.1']
    gc.collect()
    await asyncio.sleep(0)


async def test_who_gets_the_lead_and_is_cancelled_in_the_same_step_hands_it_on(nameserver):
    server, _, tasks = await half_answered(nameserver, 3)
    tasks[0].cancel()
    await asyncio.sleep(0)  # the leader ends, and the second is to lead
    tasks[1].cancel()
    assert texts(await tasks[2]) == ['192.0.2.1']
    assert [task.cancelled() for task in tasks] == [True, True, False]
    assert len(server.queries) == 2


async def test_the_last_who_gets_the_lead_and_is_cancelled_in_the_same_step_leaves_nothing_to_join(nameserver):
    server, resolve, tasks = await half_answered(nameserver, 2)
    tasks[0].cancel()
    await asyncio.sleep(0)  # the leader ends, and the second is to lead
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert len(server.queries) == 2


@pytest.mark.parametrize('steps', range(25))
@pytest.mark.parametrize('who', range(4))
async def test_whoever_is_cancelled_at_whatever_moment_nobody_else_notices(nameserver, steps, who):
    """Four look-ups: two of one name that is an alias, two of another, with one socket for all of them."""
    server = nameserver(alias('b.example', ttl=0), a('192.0.2.1'))
    server.replies = [
        lambda query: (alias('b.example', 0) if str(query.question[0].name).lower().startswith('www') else a('192.0.2.1'))(query)
    ]
    resolve, _ = resolver_for(server, max_sockets=1)
    tasks = [asyncio.ensure_future(resolve(name, TYPES.A)) for name in ('www.example.com', 'www.example.com', 'c.example', 'c.example')]
    for _ in range(steps):
        await asyncio.sleep(0)
    tasks[who].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    del results[who]
    assert [texts(result) for result in results] == [['192.0.2.1']] * 3


async def test_an_error_of_a_hook_passes_through_as_it_is_to_all_who_wait(nameserver):
    class Broken(Exception):
        pass

    async def get_nameservers(_):
        await asyncio.sleep(0.1)
        raise Broken('the hook')
        yield

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    results = await asyncio.gather(*(resolve('www.example.com', TYPES.A) for _ in range(3)), return_exceptions=True)
    assert [(type(result), str(result)) for result in results] == [(Broken, 'the hook')] * 3


async def test_get_nameservers_is_closed_as_soon_as_the_answer_is_there(nameserver):
    server = nameserver(a('192.0.2.1'))
    closed = []

    async def get_nameservers(_):
        try:
            yield 1, server.at
            yield 1, server.at
        finally:
            closed.append(now())

    resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
    started = now()
    await resolve('www.example.com', TYPES.A)
    assert closed == [started]


async def test_no_task_is_made(nameserver):
    server = nameserver(silence, a('192.0.2.1'))
    resolve, _ = resolver_for(server)
    made = []
    loop = asyncio.get_running_loop()
    looking = asyncio.ensure_future(resolve('www.example.com', TYPES.A))
    loop.set_task_factory(lambda loop, coroutine, **options: made.append(coroutine) or asyncio.Task(coroutine, loop=loop, **options))
    await looking
    loop.set_task_factory(None)
    assert made == []


async def test_a_timeout_around_a_look_up_is_one_as_around_sleep(nameserver):
    resolve, _ = resolver_for(nameserver(silence))
    started = now()
    with pytest.raises(asyncio.TimeoutError) as caught:
        await asyncio.wait_for(resolve('www.example.com', TYPES.A), 0.7)
    assert not isinstance(caught.value, m.ResolverError)
    assert now() == started + 0.7
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7):
            await resolve('www.example.com', TYPES.A)
    assert asyncio.current_task().cancelling() == 0


def test_a_resolver_works_in_one_loop_after_another_each_with_a_cache_of_its_own():
    count = []

    async def get_host(fqdn, qtype):
        return None

    async def scenario():
        server = Scripted('127.0.0.1', [a('192.0.2.1')])
        at.append(server.at)
        for _ in range(2):
            await resolve('www.example.com', TYPES.A)
        count.append(len(server.queries))
        server.close()

    async def get_nameservers(_):
        yield 5, at[-1]

    at = []
    resolve, clear_cache = Resolver(get_host=get_host, get_nameservers=get_nameservers)
    for loop_factory in LOOPS * 2:
        run(scenario(), loop_factory)
    clear_cache()
    assert count == [1] * len(at)


def test_two_loops_in_two_threads_do_not_disturb_each_other():
    resolve, _ = Resolver(get_nameservers=lambda fqdn: sets((5, at[threading.get_ident()]))(fqdn), get_host=no_host)
    at, found = {}, []

    async def scenario():
        server = Scripted('127.0.0.1', [after(0.01, a('192.0.2.1'))])
        at[threading.get_ident()] = server.at
        for i in range(20):
            found.extend(await resolve(f'n{i}.example', TYPES.A))
        server.close()

    threads = [threading.Thread(target=lambda: run(scenario())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40


@pytest.mark.parametrize('room', [9, 1])
def test_a_loop_that_is_closed_in_the_middle_of_look_ups_leaves_no_warning(recwarn, monkeypatch, caplog, room):
    FullBuffers(monkeypatch, room)
    loop = asyncio.new_event_loop()
    silent, sender = udp_pair()
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((5, silent.getsockname())), max_sockets=2)
    tasks = [loop.create_task(resolve(name, TYPES.A)) for name in ('a.example', 'a.example', 'b.example', 'c.example', 'c.example')]
    loop.run_until_complete(asyncio.sleep(0.01))
    for task in tasks:
        task._log_destroy_pending = False  # what the application is told of its own tasks
    loop.close()
    del task, tasks
    gc.collect()
    silent.close()
    sender.close()
    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.text == ''


def test_a_forgotten_resolver_is_not_kept_alive():
    async def scenario():
        silent, sender = udp_pair()
        resolve, clear_cache = Resolver(get_host=no_host, get_nameservers=sets((0.05, silent.getsockname())))
        with pytest.raises(m.ResolverTimeout):
            await resolve('www.example.com', TYPES.A)
        silent.close()
        sender.close()
        del resolve, clear_cache
        await asyncio.sleep(0.06)
        gc.collect()
        loop = asyncio.get_running_loop()
        return [found for found in gc.get_objects() if isinstance(found, m.LoopResolver) and found.loop is loop]

    assert run(scenario()) == []


def test_a_resolver_forgets_the_loops_that_are_closed():
    resolve, _ = Resolver()
    for _ in range(3):
        run(resolve('localhost', TYPES.A))
        (in_loop,) = (cell.cell_contents for cell in resolve.__closure__ if isinstance(cell.cell_contents, dict))
        assert len(in_loop) == 1


def test_loops_that_are_closed_leave_no_descriptors_to_the_garbage_collector():
    at, descriptors = [], []

    async def scenario(resolve):
        server = Scripted('127.0.0.1', [a('192.0.2.1')])
        at.append(server.at)
        await resolve('www.example.com', TYPES.A)
        server.close()

    def work():
        resolve, _ = Resolver(get_host=no_host, get_nameservers=lambda fqdn: sets((5, at[-1]))(fqdn))
        for _ in range(3):
            run(scenario(resolve))
            descriptors.append(descriptors_now())

    gc.collect()
    gc.disable()
    try:
        work()
    finally:
        gc.enable()
        gc.collect()
    assert descriptors == [descriptors[0]] * 3


@pytest.mark.slow
def test_many_loops_in_many_threads_make_do_with_one_resolver():
    resolve, clear_cache = Resolver()
    failures = []

    def work():
        try:
            for _ in range(100):
                run(resolve('localhost', TYPES.A))
                clear_cache()
        except Exception as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert failures == []


def output_of(nsd, code):
    """What a Python process of its own prints, in whose code `get_nameservers` is of NSD, and on its standard error."""
    before = f"""
import asyncio, gc, os, resource, sys
sys.path.insert(0, {str(HERE)!r})
from aiodnsresolver import TYPES, Resolver
async def get_nameservers(_):
    for _ in range(5):
        yield 5, ('127.0.0.1', {nsd[1]})
"""
    done = subprocess.run([sys.executable, '-c', before + code], capture_output=True, text=True, timeout=600)
    return done.stdout, done.stderr


def test_under_a_real_shortage_of_descriptors_all_resolve_and_nothing_is_printed(nsd):
    code = """
async def main():
    resolve, _ = Resolver(get_nameservers=get_nameservers)
    results = await asyncio.gather(*(resolve(f'n{i}.wild.zone.example', TYPES.A) for i in range(500)))
    print(len(results))
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
asyncio.run(main())
"""
    assert output_of(nsd, code) == ('500\n', '')


async def test_nothing_is_logged_for_an_answer_when_the_level_is_off(nameserver, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, logger='aiodnsresolver')
    monkeypatch.setattr(m.logger, 'debug', None)
    resolve, _ = resolver_for(nameserver(a('192.0.2.1')))
    await resolve('www.example.com', TYPES.A)


async def test_each_exchange_is_logged_at_debug(nameserver, caplog):
    caplog.set_level(logging.DEBUG, logger='aiodnsresolver')
    server = nameserver(servfail, a('192.0.2.1'))
    resolve, _ = resolver_for(server)
    await resolve('www.example.com', TYPES.A)
    said = [record.getMessage() for record in caplog.records if record.name == 'aiodnsresolver']
    assert said[:3] == [
        f'www.example.com A: asked {server.text}',
        f'www.example.com A: {server.text} answered SERVFAIL',
        f'www.example.com A: asked {server.text}',
    ]
    assert said[3].startswith(f"www.example.com A: {server.text} gave Answer(records=(IPv4AddressExpiresAt('192.0.2.1', ")


@pytest.mark.parametrize('back', [a('192.0.2.1'), nxdomain, edited(lambda data: bytes(data[:-5]) + b'\3' + bytes(data[-3:]))])
async def test_that_a_nameserver_fails_and_is_back_is_logged_with_what_happened(nameserver, caplog, back):
    caplog.set_level(logging.INFO, logger='aiodnsresolver')
    one, two = nameserver(silence, back), nameserver(a('192.0.2.2'), address='127.0.0.2')
    with system(one, two):
        resolve, _ = Resolver()
        await resolve('first.example', TYPES.A)
        await asyncio.sleep(31)
        with contextlib.suppress(m.DoesNotExist, m.BadAddress):
            await resolve('second.example', TYPES.A)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ('WARNING', f'nameserver {one.text} timed out after 0.5 s (first.example A): for 30 s it is asked last'),
        ('INFO', f'nameserver {one.text} answered second.example A: it is back'),
    ]


async def test_an_error_shows_who_answered_that_there_is_none_with_an_soa_and_without(nameserver):
    server = nameserver(nxdomain, reply(rcode=3), nodata, nodata_without_soa)
    resolve, _ = resolver_for(server)
    for i, says in enumerate(['does not exist: {} answered NXDOMAIN'] * 2 + ['has no such record: {} answered with no such record'] * 2):
        with pytest.raises(m.DoesNotExist) as caught:
            await resolve(f'n{i}.example', TYPES.A)
        assert str(caught.value) == f'n{i}.example A: {says.format(server.text)}'


async def test_the_zone_of_an_ip_literal_is_kept_to_the_letter(clock):
    resolve, _ = Resolver(get_host=no_host)
    for name in ('fe80::1%Eth0', 'FE80::1%Eth0.'):
        (address,) = await resolve(name, TYPES.AAAA)
        assert str(address) == 'fe80::1%Eth0'


async def test_an_error_at_the_end_of_aliases_shows_the_way_there(nameserver):
    server = nameserver(alias('b.example'), alias('c.example'), nxdomain)
    resolve, _ = resolver_for(server)
    with pytest.raises(m.NameDoesNotExist) as caught:
        await resolve('a.example', TYPES.A)
    assert str(caught.value) == f'a.example A (an alias: b.example → c.example): does not exist: {server.text} answered NXDOMAIN'


# --- Both families of a name ------------------------------------------------------------------------------------------------------------------

BOTH = TYPES.A, TYPES.AAAA


def by_type(four, six):
    """Replies by the record type of the question."""
    return lambda query: (four if query.question[0].rdtype == TYPES.A else six)(query)


def asked_types(server):
    return [(name.lower(), qtype) for name, qtype, *_ in server.queries]


class TestBothFamilies:
    """`resolve(name, (TYPES.A, TYPES.AAAA))`, section 11 of the contract."""

    @pytest.mark.parametrize(
        ('qtypes', 'expected'),
        [
            (BOTH, ['192.0.2.1', '2001:db8::1']),
            (BOTH[::-1], ['2001:db8::1', '192.0.2.1']),
            ((TYPES.A,), ['192.0.2.1']),
            ((TYPES.AAAA,), ['2001:db8::1']),
            ((1, 28), ['192.0.2.1', '2001:db8::1']),
            ((TYPES.A, TYPES.A), ['192.0.2.1']),
        ],
    )
    async def test_addresses_come_in_the_order_of_the_types(self, nameserver, get_host, qtypes, expected):
        server = nameserver(by_type(after(0.2, a('192.0.2.1')), after(0.1, a('2001:db8::1'))))
        resolve, _ = resolver_for(server, get_host=get_host)
        first = await resolve('www.example.com', qtypes)
        assert texts(first) == expected
        for _ in range(3):
            assert await resolve('www.example.com', qtypes) == first
        assert len(server.queries) == len(expected)

    @pytest.mark.parametrize('qtypes', [(), (TYPES.A, TYPES.TXT), (TYPES.CNAME,), (TYPES.A, 2), ([],), [TYPES.A], ('A',)])
    async def test_other_tuples_are_refused(self, nameserver, qtypes):
        server = nameserver(a('192.0.2.1'))
        resolve, _ = resolver_for(server)
        with pytest.raises(ValueError, match='a tuple of A and AAAA'):
            await resolve('www.example.com', qtypes)
        assert server.queries == []

    async def test_both_queries_leave_in_the_same_step_with_a_socket_of_their_own_and_no_task(self, nameserver):
        server = nameserver(by_type(a('192.0.2.1'), a('2001:db8::1')))
        resolve, _ = resolver_for(server)
        tasks = asyncio.all_tasks()
        coroutine = resolve('www.example.com', BOTH)
        coroutine.send(None)
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks
        assert [query[2] for query in server.queries] == [now(), now()]
        assert len({query[4] for query in server.queries}) == len({query[3][:2] for query in server.queries}) == 2
        coroutine.close()
        await asyncio.sleep(1)

    async def test_a_candidate_of_the_search_list_is_decided_as_a_whole(self, nameserver):
        def zone_(query):
            name, qtype = query.question[0].name.to_text(omit_final_dot=True).lower(), query.question[0].rdtype
            found = {('db.a.test', TYPES.AAAA): a('2001:db8::1'), ('db.b.test', TYPES.A): a('192.0.2.1')}
            return found.get((name, qtype), nodata if name == 'db.a.test' else nxdomain)(query)

        server = nameserver(zone_)
        with system(server, search='a.test b.test'):
            resolve, _ = Resolver()
            assert texts(await resolve('db', BOTH)) == ['2001:db8::1']
        assert sorted(asked_types(server)) == [('db.a.test', 1), ('db.a.test', 28)]

    async def test_an_address_of_the_hosts_file_is_the_answer_for_both(self, nameserver):
        server = nameserver(by_type(a('192.0.2.1'), a('2001:db8::1')))
        with system(server, hosts='127.0.0.1 api.example.com\n::1 six.lan\n127.0.0.2 six.lan'):
            resolve, _ = Resolver()
            assert texts(await resolve('api.example.com', BOTH)) == ['127.0.0.1']
            assert texts(await resolve('six.lan', BOTH[::-1])) == ['::1', '127.0.0.2']
            assert texts(await resolve('localhost', BOTH)) == ['127.0.0.1', '::1']
            assert texts(await resolve('192.0.2.9', BOTH)) == ['192.0.2.9']
        assert server.queries == []

    async def test_get_host_is_asked_for_each_type_in_their_order(self, nameserver):
        asked = []

        async def get_host(fqdn, qtype):
            asked.append(qtype)
            return ipaddress.ip_address('2001:db8::7') if qtype == TYPES.AAAA else None

        resolve, _ = resolver_for(nameserver(a('192.0.2.1')), get_host=get_host)
        assert texts(await resolve('www.example.com', BOTH)) == ['2001:db8::7']
        assert asked == [TYPES.A, TYPES.AAAA]

    @pytest.mark.parametrize(
        ('four', 'six', 'expected'),
        [
            (a('192.0.2.1'), nodata, ['192.0.2.1']),
            (nodata, a('2001:db8::1'), ['2001:db8::1']),
            (a('192.0.2.1'), nodata_without_soa, ['192.0.2.1']),
            (a('192.0.2.1'), servfail, ['192.0.2.1']),
            (nodata, nodata, m.NoRecords),
            (nxdomain, nxdomain, m.NameDoesNotExist),
            (nodata, servfail, m.ResponseCodeError),
            (servfail, nodata, m.ResponseCodeError),
            (servfail, servfail, m.ResponseCodeError),
        ],
    )
    async def test_what_one_type_has_and_the_other_has_not(self, nameserver, four, six, expected):
        server = nameserver(by_type(four, six))
        resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=1))
        if isinstance(expected, list):
            assert texts(await resolve('www.example.com', BOTH)) == expected
        else:
            with pytest.raises(expected, match='^www.example.com A, AAAA: ') as caught:
                await resolve('www.example.com', BOTH)
            assert type(caught.value) is expected
        assert len(server.queries) == 2

    async def test_nxdomain_to_one_is_the_answer_for_both_and_is_cached_for_both(self, nameserver):
        server = nameserver(by_type(silence, nxdomain))
        resolve, _ = resolver_for(server)
        started = now()
        for qtype in (BOTH, TYPES.A, TYPES.AAAA):
            with pytest.raises(m.NameDoesNotExist):
                await resolve('www.example.com', qtype)
        assert (now(), len(server.queries)) == (started, 2)

    @pytest.mark.parametrize('types', [BOTH, BOTH[::-1]])
    async def test_with_addresses_of_one_the_other_is_waited_for_until_the_end_of_the_set(self, nameserver, types):
        server = nameserver(by_type(after(0.1, a('192.0.2.1')), silence))
        resolve, _ = resolver_for(server)
        started = now()
        assert texts(await resolve('www.example.com', types)) == ['192.0.2.1']
        assert (now(), len(server.queries)) == (started + 0.5, 2)
        assert texts(await resolve('www.example.com', types)) == ['192.0.2.1']  # the other is asked again, for one set
        assert (now(), asked_types(server)[2:]) == (started + 1, [('www.example.com', 28)])

    async def test_without_addresses_the_other_has_all_its_tries(self, nameserver):
        six = nameserver(nodata)
        replies = iter([silence, silence, a('2001:db8::1')])
        six.replies = [lambda query: nodata(query) if query.question[0].rdtype == TYPES.A else next(replies)(query)]
        resolve, _ = resolver_for(six)
        started = now()
        assert texts(await resolve('www.example.com', BOTH)) == ['2001:db8::1']
        assert (now() - started, [qtype for _, qtype, *_ in six.queries]) == (1, [1, 28, 28, 28])

    async def test_a_late_reply_for_the_first_type_counts_while_the_second_is_asked(self, nameserver):
        server = nameserver(by_type(after(0.7, a('192.0.2.1')), silence))
        resolve, _ = resolver_for(server)
        started = now()
        assert texts(await resolve('www.example.com', BOTH)) == ['192.0.2.1']
        assert now() == started + 1

    async def test_a_bad_address_is_raised_at_once_beside_good_ones_of_the_other_family(self, nameserver):
        bad = edited(lambda data: bytes(data[:-5]) + b'\3' + bytes(data[-3:]))
        resolve, _ = resolver_for(nameserver(by_type(bad, a('2001:db8::1'))))
        with pytest.raises(m.BadAddress, match='www.example.com A, AAAA: .* gave'):
            await resolve('www.example.com', BOTH)

    @pytest.mark.parametrize('first', BOTH)
    async def test_a_type_in_flight_is_joined_and_the_other_asked_at_once(self, nameserver, first):
        server = nameserver(after(0.2, by_type(a('192.0.2.1'), a('2001:db8::1'))))
        resolve, _ = resolver_for(server)
        single = asyncio.ensure_future(resolve('www.example.com', first))
        await asyncio.sleep(0.1)
        started = now()
        assert texts(await resolve('www.example.com', BOTH)) == ['192.0.2.1', '2001:db8::1']
        assert now() == started + 0.2
        assert (len(await single), len(server.queries)) == (1, 2)

    async def test_a_single_type_joins_a_look_up_of_both_and_has_its_answer_first(self, nameserver):
        server = nameserver(by_type(after(0.1, a('192.0.2.1')), after(0.4, a('2001:db8::1'))))
        resolve, _ = resolver_for(server)
        both = asyncio.ensure_future(resolve('www.example.com', BOTH))
        await asyncio.sleep(0)
        started = now()
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert now() == pytest.approx(started + 0.1)
        assert (len(await both), len(server.queries)) == (2, 2)

    @pytest.mark.parametrize('cancelled', [0, 1, 2, 3])
    @pytest.mark.parametrize('when', [0, 0.05, 0.15])
    async def test_whichever_look_up_is_cancelled_no_other_notices(self, nameserver, cancelled, when):
        server = nameserver(by_type(after(0.1, a('192.0.2.1')), after(0.2, a('2001:db8::1'))))
        resolve, _ = resolver_for(server)
        asked = [TYPES.AAAA, BOTH, TYPES.A, BOTH[::-1]]
        tasks = [asyncio.ensure_future(resolve('www.example.com', qtype)) for qtype in asked]
        await asyncio.sleep(when)
        tasks[cancelled].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        expected = [['2001:db8::1'], ['192.0.2.1', '2001:db8::1'], ['192.0.2.1'], ['2001:db8::1', '192.0.2.1']]
        assert [texts(result) for i, result in enumerate(results) if i != cancelled] == [
            addresses for i, addresses in enumerate(expected) if i != cancelled
        ]

    async def test_a_type_whose_leader_was_cancelled_is_asked_by_a_follower_when_it_asks_nothing_else(self, nameserver):
        server = nameserver(by_type(silence, silence))
        resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, timeout=5, times=1))
        single = asyncio.ensure_future(resolve('www.example.com', TYPES.AAAA))
        await asyncio.sleep(1)
        both = asyncio.ensure_future(resolve('www.example.com', BOTH))
        await asyncio.sleep(1)
        server.replies = [by_type(silence, a('2001:db8::1'))]
        single.cancel()
        assert texts(await both) == ['2001:db8::1']
        assert [(qtype, sent) for _, qtype, sent, *_ in server.queries] == [(28, 1000), (1, 1001), (28, 1006)]
        assert now() == 1006

    async def test_a_follower_of_two_look_ups_waits_no_longer_than_the_set_of_the_slower_one(self, nameserver):
        server = nameserver(by_type(after(0.1, a('192.0.2.1')), silence))
        resolve, _ = resolver_for(server)
        singles = [asyncio.ensure_future(resolve('www.example.com', qtype)) for qtype in BOTH]
        await asyncio.sleep(0)
        assert texts(await resolve('www.example.com', BOTH)) == ['192.0.2.1']
        assert now() == 1000.5
        results = await asyncio.gather(*singles, return_exceptions=True)
        assert isinstance(results[1], m.ResolverTimeout)

    async def test_an_alias_is_followed_for_both_together(self, nameserver):
        def zone_(query):
            name = query.question[0].name.to_text(omit_final_dot=True).lower()
            return (alias('b.example', ttl=9) if name.startswith('www') else by_type(a('192.0.2.1'), a('2001:db8::1')))(query)

        server = nameserver(after(0.1, zone_))
        resolve, _ = resolver_for(server)
        addresses = await resolve('www.example.com', BOTH)
        assert texts(addresses) == ['192.0.2.1', '2001:db8::1']
        assert [address.expires_at for address in addresses] == [1009, 1009]
        assert now() == 1000.2
        assert [sent for _, _, sent, *_ in server.queries] == [1000, 1000, 1000.1, 1000.1]

    async def test_aliases_to_different_names_are_each_followed(self, nameserver):
        def zone_(query):
            name, qtype = query.question[0].name.to_text(omit_final_dot=True).lower(), query.question[0].rdtype
            if name.startswith('www'):
                return alias('four.example' if qtype == TYPES.A else 'six.example')(query)
            return by_type(a('192.0.2.1'), a('2001:db8::1'))(query)

        server = nameserver(zone_)
        resolve, _ = resolver_for(server)
        assert texts(await resolve('www.example.com', BOTH)) == ['192.0.2.1', '2001:db8::1']
        assert asked_types(server)[2:] == [('four.example', 1), ('six.example', 28)]

    async def test_an_error_behind_an_alias_names_both_types_and_the_way(self, nameserver):
        server = nameserver(lambda query: (alias('b.example') if len(server.queries) < 3 else servfail)(query))
        resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=1))
        with pytest.raises(m.ResponseCodeError) as caught:
            await resolve('www.example.com', BOTH)
        assert str(caught.value) == f'www.example.com A, AAAA (an alias: b.example): b.example A, AAAA: {server.text} answered SERVFAIL'

    async def test_one_socket_is_enough_for_both(self, nameserver):
        server = nameserver(after(0.1, by_type(a('192.0.2.1'), a('2001:db8::1'))))
        resolve, _ = resolver_for(server, max_sockets=1)
        results = await asyncio.gather(*(resolve(f'n{i}.example', BOTH) for i in range(5)))
        assert [texts(result) for result in results] == [['192.0.2.1', '2001:db8::1']] * 5

    async def test_what_is_cached_of_one_type_is_not_asked_for(self, nameserver):
        server = nameserver(by_type(a('192.0.2.1'), a('2001:db8::1')))
        resolve, _ = resolver_for(server)
        await resolve('www.example.com', TYPES.A)
        assert texts(await resolve('www.example.com', BOTH)) == ['192.0.2.1', '2001:db8::1']
        assert [qtype for _, qtype, *_ in server.queries] == [1, 28]


class TestSharing:
    """What look-ups of one and of both families, cancelled or not, do to each other."""

    async def test_with_one_socket_each_type_has_its_tries(self, nameserver):
        server = nameserver(by_type(silence, a('2001:db8::1')))
        resolve, _ = resolver_for(server, max_sockets=1)
        both, single = (asyncio.ensure_future(resolve('db.example', qtype)) for qtype in (BOTH, TYPES.AAAA))
        assert [texts(found) for found in await asyncio.gather(both, single)] == [['2001:db8::1']] * 2
        assert [qtype for _, qtype, *_ in server.queries][:2] == [1, 28]

    async def test_a_type_that_was_never_asked_for_want_of_a_socket_says_so(self, nameserver):
        resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(nameserver(silence), times=1), max_sockets=1)
        both, single = (asyncio.ensure_future(resolve('db.example', qtype)) for qtype in (BOTH, TYPES.AAAA))
        results = await asyncio.gather(both, single, return_exceptions=True)
        assert [type(error) for error in results] == [m.ResolverTimeout, m.TemporaryResolverError]
        assert 'timed out after 0.5 s' in str(results[0])
        assert 'was not asked, since all sockets were in use' in str(results[1])

    async def test_a_look_up_that_was_cancelled_leads_nothing_while_its_hook_is_closed(self, nameserver):
        server, closing = nameserver(silence), []

        async def get_nameservers(_):
            try:
                while True:
                    yield 1, server.at
            finally:
                closing.append(now())
                if len(closing) == 1:
                    await asyncio.sleep(0.2)

        resolve, _ = resolver_for(get_nameservers=get_nameservers, max_sockets=3)
        single = asyncio.ensure_future(resolve('db.example', TYPES.AAAA))
        await asyncio.sleep(0.1)
        both = asyncio.ensure_future(resolve('db.example', BOTH))
        await asyncio.sleep(0.1)
        both.cancel()
        await asyncio.sleep(0.05)
        single.cancel()
        await asyncio.gather(both, single, return_exceptions=True)

    async def test_a_follower_does_not_wait_for_the_hook_of_a_cancelled_leader_to_be_closed(self, nameserver):
        server = nameserver(silence, a('192.0.2.1'))

        async def get_nameservers(_):
            try:
                yield 30, server.at
            finally:
                await asyncio.sleep(10)

        resolve, _ = resolver_for(get_nameservers=get_nameservers)
        leader, follower = (asyncio.ensure_future(resolve('db.example', TYPES.A)) for _ in range(2))
        await asyncio.sleep(0.1)
        leader.cancel()
        await asyncio.sleep(0.1)
        assert len(server.queries) == 2
        await asyncio.gather(leader, follower, return_exceptions=True)

    async def test_a_timeout_of_nothing_does_not_make_the_poller_check_all_the_time(self, nameserver, monkeypatch):
        checks, check = [], m.Poller.check
        monkeypatch.setattr(m.Poller, 'check', lambda poller: checks.append(now()) or check(poller))
        one, two = nameserver(after(1, a('192.0.2.1'))), nameserver(silence)
        resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((0, one.at), (5, two.at)))
        assert texts(await resolve('db.example', TYPES.A)) == ['192.0.2.1']
        assert len(checks) <= 2

    @pytest.mark.parametrize('types', [BOTH, BOTH[::-1]])
    async def test_an_error_for_both_tells_what_happened_to_each(self, nameserver, types):
        server = nameserver(by_type(silence, servfail))
        with system(server):
            resolve, _ = Resolver()
            with pytest.raises(m.ResolverTimeout) as caught:
                await resolve('db.example', types)
        assert f'{server.text} timed out after 0.5 s (2 times)' in str(caught.value)
        assert f'{server.text} answered SERVFAIL (2 times)' in str(caught.value)

    @pytest.mark.parametrize('types', [BOTH, BOTH[::-1]])
    async def test_a_timeout_of_one_type_of_a_single_label_ends_the_search(self, nameserver, types):
        server = nameserver(zone(db=by_type(silence, servfail), db_other_example=by_type(a('192.0.2.66'), a('2001:db8::66'))))
        with system(server, search='other.example', options='ndots:0'):
            resolve, _ = Resolver()
            with pytest.raises(m.ResolverTimeout, match='^db A.*: '):
                await resolve('db', types)

    async def test_addresses_are_in_the_order_of_the_types_though_one_has_an_alias_to_follow(self, nameserver):
        def find(query):
            if query.question[0].rdtype == TYPES.AAAA:
                return reply('? 20 IN CNAME x.example.', 'x.example. 20 IN AAAA 2001:db8::1')(query)
            return (alias('x.example') if b'www' in query.question[0].name.to_wire().lower() else a('192.0.2.1'))(query)

        resolve, _ = resolver_for(nameserver(find))
        for _ in range(2):
            assert texts(await resolve('www.example', BOTH)) == ['192.0.2.1', '2001:db8::1']

    async def test_a_question_handed_over_to_one_in_its_last_set_is_asked_anew_in_all_sets(self, nameserver):
        server = nameserver(by_type(silence, silence))
        resolve, _ = resolver_for(server)
        leader = asyncio.ensure_future(resolve('db.example', TYPES.A))
        await asyncio.sleep(0.01)
        follower = asyncio.ensure_future(resolve('db.example', BOTH))
        await asyncio.sleep(2.44)  # the leader and the follower, which leads AAAA, are in their fifth sets
        server.replies = [by_type(after(0.2, a('192.0.2.1')), silence)]
        leader.cancel()
        assert texts(await follower) == ['192.0.2.1']

    async def test_a_question_is_handed_over_to_a_follower_that_asks_nothing_if_there_is_one(self, nameserver):
        server = nameserver(by_type(silence, silence))
        resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, timeout=9, times=1))
        leader = asyncio.ensure_future(resolve('db.example', TYPES.A))
        await asyncio.sleep(1)
        both, single = (asyncio.ensure_future(resolve('db.example', qtype)) for qtype in (BOTH, TYPES.A))
        await asyncio.sleep(1)
        server.replies = [by_type(after(8, a('192.0.2.1')), silence)]
        leader.cancel()
        assert texts(await single) == ['192.0.2.1']
        assert now() == 1010  # with nine seconds of its own, of which the other had eight left
        assert texts(await both) == ['192.0.2.1']

    @pytest.mark.parametrize(
        ('four', 'six'), [(nxdomain, a('2001:db8::1')), (after(0.1, nxdomain), a('2001:db8::1')), (nxdomain, after(0.1, a('2001:db8::1')))]
    )
    async def test_nxdomain_to_one_wins_whatever_comes_first_and_from_the_cache(self, nameserver, four, six):
        resolve, _ = resolver_for(nameserver(by_type(four, six)))
        for _ in range(2):
            with pytest.raises(m.NameDoesNotExist):
                await resolve('db.example', BOTH)

    async def test_nxdomain_to_a_type_that_is_followed_counts_before_a_failure_of_the_other(self, nameserver):
        server = nameserver(by_type(after(0.4, nxdomain), silence))
        resolve, _ = resolver_for(server)
        single = asyncio.ensure_future(resolve('db.example', TYPES.AAAA))
        await asyncio.sleep(2.2)
        with pytest.raises(m.NameDoesNotExist):
            await resolve('db.example', BOTH)
        await asyncio.gather(single, return_exceptions=True)

    async def test_a_look_up_that_is_decided_does_not_wait_for_its_turn(self, nameserver):
        other, server = nameserver(silence), nameserver(after(0.2, nxdomain))

        async def get_nameservers(fqdn):
            yield 30, (other if fqdn == b'z.example' else server).at

        resolve, _ = resolver_for(get_nameservers=get_nameservers, max_sockets=1)
        single = asyncio.ensure_future(resolve('db.example', TYPES.A))
        await asyncio.sleep(0.05)
        blocking = asyncio.ensure_future(resolve('z.example', TYPES.A))
        await asyncio.sleep(0.05)
        with pytest.raises(m.NameDoesNotExist):
            await resolve('db.example', BOTH)
        assert (now(), len(server.queries)) == (pytest.approx(1000.2), 1)
        blocking.cancel()
        await asyncio.gather(single, blocking, return_exceptions=True)

    async def test_what_a_hook_raises_for_a_question_handed_over_is_not_for_the_look_up_that_leaves(self, nameserver):
        is_broken = False

        def transform(fqdn):
            if is_broken:
                raise KeyError('hook')
            return fqdn

        resolve, _ = resolver_for(nameserver(silence), transform_fqdn=transform)
        leaving = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await asyncio.sleep(0.05)
        staying = asyncio.ensure_future(resolve('x.example', BOTH[::-1]))
        await asyncio.sleep(0.05)
        is_broken = True
        leaving.cancel()
        results = await asyncio.gather(leaving, staying, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, KeyError]

    async def test_a_look_up_under_way_comes_before_one_that_begins_and_needs_two_sockets(self, nameserver):
        server = nameserver(silence)
        resolve, _ = resolver_for(server, max_sockets=2)
        first = asyncio.ensure_future(resolve('x.example', TYPES.A))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(resolve('y.example', BOTH))
        await asyncio.gather(first, second, return_exceptions=True)
        assert [sent - 1000 for name, _, sent, *_ in server.queries if name.lower() == 'x.example'] == [0, 0.5, 1, 1.5, 2]

    async def test_an_error_of_a_hook_for_one_type_is_raised_without_waiting_for_the_other(self, nameserver):
        server, calls = nameserver(silence), []

        async def get_nameservers(_):
            calls.append(now())
            if len(calls) == 1:
                await asyncio.sleep(0.1)
                raise KeyError('hook')
            yield 9, server.at

        resolve, _ = resolver_for(get_nameservers=get_nameservers)
        results = await asyncio.gather(*(resolve('x.example', qtype) for qtype in (TYPES.A, BOTH)), return_exceptions=True)
        assert ([type(result) for result in results], now()) == ([KeyError] * 2, 1000.1)

    async def test_an_exception_of_a_logging_handler_after_the_last_set_is_raised(self, nameserver):
        server = nameserver(silence)

        async def get_nameservers(_):
            yield 0.5, server.at
            server.sock.sendto(servfail(dns.message.from_wire(server.queries[0][3])), server.queries[0][4])

        def handle(record):
            if 'SERVFAIL' in record.getMessage():
                raise ZeroDivisionError

        resolve, _ = resolver_for(get_nameservers=get_nameservers)
        handler = logging.Handler()
        handler.handle = handle
        m.logger.addHandler(handler)
        m.logger.setLevel(logging.DEBUG)
        try:
            with pytest.raises(ZeroDivisionError):
                await resolve('x.example', TYPES.A)
        finally:
            m.logger.setLevel(logging.NOTSET)
            m.logger.removeHandler(handler)

    async def test_an_answer_that_came_meanwhile_counts_before_nonsense_of_the_hook(self, nameserver):
        server = nameserver(after(0.7, a('192.0.2.1')))

        async def get_nameservers(_):
            yield 0.5, server.at
            await asyncio.sleep(1)
            yield 'nonsense'

        resolve, _ = resolver_for(get_nameservers=get_nameservers)
        assert texts(await resolve('db.example', TYPES.A)) == ['192.0.2.1']

    async def test_an_exception_of_a_logging_handler_is_not_for_the_followers(self, nameserver):
        for reply_, expected in (
            (after(0.1, servfail), (ZeroDivisionError, m.ResponseCodeError)),
            (silence, (ZeroDivisionError, m.ResolverTimeout)),
        ):
            resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(nameserver(reply_), times=2))
            handler = logging.Handler()
            handler.handle = lambda record, handler=handler: m.logger.removeHandler(handler) or 1 / 0
            m.logger.addHandler(handler)
            m.logger.setLevel(logging.DEBUG)
            try:
                results = await asyncio.gather(*(resolve('db.example', TYPES.A) for _ in range(2)), return_exceptions=True)
            finally:
                m.logger.setLevel(logging.NOTSET)
                m.logger.removeHandler(handler)
            assert tuple(map(type, results)) == expected

    @pytest.mark.parametrize('how', ['cancelled', 'both'])
    async def test_it_leaves_nothing_to_the_garbage_collector(self, nameserver, how):
        resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(nameserver(by_type(a('192.0.2.1'), silence)), times=2))

        async def look_up(i):
            task = asyncio.ensure_future(resolve(f'n{i}.example', BOTH if how == 'both' else TYPES.AAAA))
            await asyncio.sleep(0.1)
            if how == 'cancelled':
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        await look_up(0)
        gc.collect()
        gc.disable()
        try:
            for i in range(1, 51):
                await look_up(i)
            assert gc.collect() < 50
        finally:
            gc.enable()


# --- What attacks found -----------------------------------------------------------------------------------------------------------------------


class TestArrivedReplies:
    """A reply that is in its socket counts, however long a step of the loop took."""

    @pytest.mark.real_time
    @pytest.mark.parametrize('loop_factory', LOOPS)
    @pytest.mark.parametrize('count', [1, 40])
    def test_a_step_longer_than_the_timeout_loses_no_reply(self, anything, loop_factory, count, caplog):
        async def scenario():
            resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((0.2, anything)))
            tasks = [asyncio.ensure_future(resolve(f'n{i}.example', TYPES.A)) for i in range(count)]
            for _ in range(3):
                await asyncio.sleep(0)
            time.sleep(0.4)  # noqa: ASYNC251
            more = [asyncio.ensure_future(resolve(f'm{i}.example', TYPES.A)) for i in range(count)]
            assert len(await asyncio.gather(*tasks, *more)) == 2 * count

        run(scenario(), loop_factory)

    async def test_more_sockets_than_epoll_reports_at_once_are_all_read_before_their_time_is_over(self, nameserver, clock):
        server = nameserver(a('192.0.2.1'))
        resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, server.at)), max_sockets=3000)
        tasks = [asyncio.ensure_future(resolve(f'n{i}.example', TYPES.A)) for i in range(1500)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while len(server.queries) < 1500:
            server.read()
        clock.now += 2
        assert len(await asyncio.gather(*tasks)) == 1500

    async def test_a_reply_that_came_while_the_hook_held_the_loop_up_is_read_before_the_error(self, nameserver, clock):
        server = nameserver(silence)

        async def get_nameservers(_):
            yield 0.5, server.at
            server.sock.sendto(a('192.0.2.1')(dns.message.from_wire(server.queries[0][3])), server.queries[0][4])

        resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']


class TestShortages:
    async def test_a_set_is_asked_as_a_whole_after_a_shortage_that_is_over(self, nameserver, monkeypatch):
        silent, good = nameserver(after(0.2, servfail)), nameserver(after(0.3, a('192.0.2.1')))
        shortage = Shortage(monkeypatch, 1)

        async def get_nameservers(fqdn):
            yield 1, *([silent.at] if fqdn != b'four.example' else [silent.at, silent.at, silent.at, good.at])

        resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
        await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(3)), return_exceptions=True)
        assert shortage.refused
        shortage.most = 1000
        started = now()
        assert texts(await resolve('four.example', TYPES.A)) == ['192.0.2.1']
        assert now() == pytest.approx(started + 0.3)

    @pytest.mark.parametrize('file', ['hosts', 'resolv.conf'])
    async def test_a_file_that_was_never_read_for_want_of_descriptors_is_a_temporary_error(self, nameserver, file):
        server, is_short = nameserver(a('192.0.2.1')), [True]

        def open_(path, mode):
            if is_short[0] and path.endswith(file):
                raise OSError(errno.EMFILE, 'Too many open files')
            return contextlib.nullcontext([] if path.endswith('hosts') else ['nameserver 127.0.0.1', 'search lan.example'])

        with unittest.mock.patch('aiodnsresolver.open', side_effect=open_, create=True), redirected(lambda *_: server.at):
            resolve, _ = Resolver()
            for qtype, types in ((TYPES.A, 'A'), (BOTH, 'A, AAAA')):
                with pytest.raises(m.TemporaryResolverError) as caught:
                    await resolve('db', qtype)
                assert str(caught.value) == f'db {types}: /etc/{file} cannot be read: Too many open files'
                assert isinstance(caught.value.__cause__, OSError)
            is_short[0] = False
            assert texts(await resolve('db', TYPES.A)) == ['192.0.2.1']
        assert server.names == ['db.lan.example']

    async def test_a_late_socket_is_closed_for_one_that_waits_and_the_others_stay(self, nameserver):
        slow, good = nameserver(after(0.9, a('192.0.2.66'))), nameserver(a('192.0.2.1'))

        async def get_nameservers(fqdn):
            for _ in range(3):
                yield 0.25, good.at if fqdn == b'good.example' else slow.at

        resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=3)
        late = asyncio.ensure_future(resolve('late.example', TYPES.A))
        await asyncio.sleep(0.6)  # two of its sockets are spare, one is active
        assert texts(await resolve('good.example', TYPES.A)) == ['192.0.2.1']
        assert now() == 1000.6
        with pytest.raises(m.ResolverTimeout):
            await late

    async def test_a_look_up_that_goes_on_to_its_next_set_keeps_its_place(self, nameserver):
        silent, good = nameserver(silence), nameserver(a('192.0.2.1'))

        async def get_nameservers(fqdn):
            yield 0.5, silent.at
            yield 0.5, (good if fqdn == b'first.example' else silent).at

        resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers, max_sockets=1)
        first, second = (asyncio.ensure_future(resolve(f'{name}.example', TYPES.A)) for name in ('first', 'second'))
        assert texts(await first) == ['192.0.2.1']
        assert now() == 1000.5
        await asyncio.gather(second, return_exceptions=True)


class TestFailures:
    @pytest.mark.real_time
    @pytest.mark.parametrize('loop_factory', LOOPS)
    def test_an_endless_hook_whose_sends_fail_does_not_hold_the_loop_up_nor_grow(self, monkeypatch, loop_factory):
        class Forbidden(m.Socket):
            def send(self, data):
                raise PermissionError(errno.EPERM, 'Operation not permitted')

        monkeypatch.setattr(m, 'Socket', Forbidden)
        sizes = []

        async def get_nameservers(_):
            for i in itertools.count():
                sizes.append(len(gc.get_objects()) if i in (200, 1000) else None)
                yield 1, ('127.0.0.1', 1 + i % 50)

        async def scenario():
            resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await resolve('www.example.com', TYPES.A)

        run(scenario(), loop_factory)
        if len(sizes) > 1000:
            assert sizes[1000] - sizes[200] < 200

    async def test_an_exception_of_a_logging_handler_ends_its_own_look_up_alone(self, nameserver):
        class Handler(logging.Handler):
            def handle(self, record):
                if 'bad.example' in record.getMessage():
                    raise ZeroDivisionError('of the handler')

        server = nameserver(after(0.1, a('192.0.2.1')))
        resolve, _ = resolver_for(server)
        handler = Handler()
        m.logger.addHandler(handler)
        level = m.logger.level
        m.logger.setLevel(logging.DEBUG)
        try:
            names = ['bad.example', 'bad.example', *(f'n{i}.example' for i in range(5))]
            results = await asyncio.gather(*(resolve(name, TYPES.A) for name in names), return_exceptions=True)
        finally:
            m.logger.setLevel(level)
            m.logger.removeHandler(handler)
        assert [type(result) for result in results] == [ZeroDivisionError] * 2 + [tuple] * 5

    @pytest.mark.parametrize('reply_', [servfail, refused, formerr, notimp, lame, truncated_and_empty])
    @pytest.mark.parametrize('count', [1, 2])
    async def test_a_nameserver_of_resolv_conf_with_error_replies_is_asked_twice(self, nameserver, reply_, count):
        servers = [nameserver(reply_, address=f'127.0.0.{i + 1}') for i in range(count)]
        with system(*servers):
            resolve, _ = Resolver()
            with pytest.raises(m.TemporaryResolverError, match=r'\(2 times\)'):
                await resolve('www.example.com', TYPES.A)
        assert [len(server.queries) for server in servers] == [2] * count

    async def test_a_nameserver_that_is_silent_in_between_is_asked_until_its_second_error_reply(self, nameserver):
        server = nameserver(silence, servfail, silence, a('192.0.2.1'))
        with system(server):
            resolve, _ = Resolver()
            assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert len(server.queries) == 4

    @pytest.mark.parametrize('rcode', [1, 2, 4, 5])
    async def test_a_bare_header_with_an_error_rcode_is_a_reply(self, nameserver, rcode):
        def bare(query):
            return query.to_wire()[:2] + bytes([0x80, rcode]) + bytes(8)

        bad, good = nameserver(bare), nameserver(a('192.0.2.1'))
        resolve, _ = resolver_for(bad, good)
        started = now()
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert now() == started

    @pytest.mark.parametrize(
        'spoil',
        [
            lambda data: bytes([data[0] ^ 1]) + data[1:],  # another ID
            lambda data: data[:2] + b'\0' + data[3:],  # a query
            lambda data: data[:2] + b'\x88' + data[3:],  # another opcode
            lambda data: data[:3] + b'\0' + data[4:],  # NOERROR
            lambda data: data[:3] + b'\3' + data[4:],  # NXDOMAIN
            lambda data: data[:7] + b'\1' + data[8:],  # an answer that is not there
            lambda data: data[:11],
        ],
    )
    async def test_another_bare_header_is_ignored(self, nameserver, spoil):
        bare = lambda query: [spoil(query.to_wire()[:2] + b'\x80\5' + bytes(8)), 0.1, a('192.0.2.1')(query)]  # noqa: E731
        resolve, _ = resolver_for(nameserver(bare))
        started = now()
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert now() == started + 0.1

    async def test_a_nameserver_that_refuses_what_is_not_its_own_stays_the_first(self, nameserver):
        inside = nameserver(lambda query: (a('10.0.0.1') if b'inside' in query.question[0].name.to_wire().lower() else refused)(query))
        outside = nameserver(
            lambda query: (nxdomain if b'inside' in query.question[0].name.to_wire().lower() else a('192.0.2.1'))(query),
            address='127.0.0.2',
        )
        with system(inside, outside):
            resolve, _ = Resolver()
            assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
            assert texts(await resolve('db.inside', TYPES.A)) == ['10.0.0.1']

    async def test_a_timeout_of_a_nameserver_that_answered_others_meanwhile_is_not_remembered(self, nameserver, caplog):
        one = nameserver(lambda query: (silence if b'slow' in query.question[0].name.to_wire().lower() else a('192.0.2.1'))(query))
        two = nameserver(a('192.0.2.2'), address='127.0.0.2')
        with system(one, two):
            resolve, _ = Resolver()
            slow = asyncio.ensure_future(resolve('slow.example', TYPES.A))
            await asyncio.sleep(0.1)
            await resolve('a.example', TYPES.A)
            assert texts(await slow) == ['192.0.2.2']
            assert texts(await resolve('b.example', TYPES.A)) == ['192.0.2.1']
            assert texts(await resolve('slower.example', TYPES.A)) == ['192.0.2.2']  # nothing was answered meanwhile
            assert texts(await resolve('c.example', TYPES.A)) == ['192.0.2.2']
        assert [record.levelname for record in caplog.records] == ['WARNING']

    @pytest.mark.parametrize('qtype', [TYPES.A, BOTH])
    @pytest.mark.parametrize('reply_', [servfail, refused])
    async def test_a_single_label_that_is_refused_does_not_end_the_search(self, nameserver, reply_, qtype):
        server = nameserver(zone(db=reply_, db_lan_example=by_type(a('192.0.2.1'), nodata), other=reply_))
        with system(server, options='ndots:0', search='lan.example'):
            resolve, _ = Resolver()
            assert texts(await resolve('db', qtype)) == ['192.0.2.1']
            with pytest.raises(m.ResponseCodeError, match='^other A'):
                await resolve('other', qtype)

    @pytest.mark.parametrize('reply_', [formerr, silence, lame])
    async def test_a_single_label_that_fails_otherwise_ends_the_search(self, nameserver, reply_):
        server = nameserver(zone(db=reply_, db_lan_example='192.0.2.1'))
        with system(server, options='ndots:0', search='lan.example'):
            resolve, _ = Resolver()
            with pytest.raises(m.TemporaryResolverError, match='^db A: '):
                await resolve('db', TYPES.A)


# --- A hostile and failing network --------------------------------------------------------------------------------------------------------------


FORGERIES = [
    edited(set_octet(0, lambda octet: octet ^ 0xFF)),  # another ID
    wrong_case,
    question_in(lambda name: 'x' + name),
    edited(set_octet(2, lambda octet: octet & 0x7F)),  # a query
    edited(set_octet(5, lambda _: 2)),  # two questions
    lambda _: b'garbage' * 10,
    lambda _: b'',
    lambda _: b'\xff' * 65507,
]


@pytest.mark.slow
async def test_ten_thousand_forged_datagrams_end_nothing_and_cost_one_read_each(nameserver, monkeypatch):
    reads = []
    read = m.Query.read
    monkeypatch.setattr(m.Query, 'read', lambda query: reads.append(query) or read(query))

    def flood(query):
        forged = [forge(query) for forge in FORGERIES]
        return [part for i in range(10_000) for part in (forged[i % len(forged)], 0.0)] + [a('192.0.2.1')(query)]

    server = nameserver(flood)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=1, timeout=5))
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert (len(server.queries), len(reads)) == (1, 10_001)


async def test_what_is_beside_the_answer_poisons_no_other_name(nameserver):
    poison = {'authority': ['bank.example. 999 IN NS ns.evil.example.'], 'additional': ['bank.example. 999 IN A 192.0.2.66']}
    server = nameserver(reply('? 20 IN A 192.0.2.1', 'bank.example. 999 IN A 192.0.2.66', **poison), a('192.0.2.7'))
    resolve, _ = resolver_for(server)
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert texts(await resolve('bank.example', TYPES.A)) == ['192.0.2.7']


@pytest.mark.parametrize(
    'answer',
    [
        ['? 20 CH A 192.0.2.66'],
        ['other.example. 20 IN A 192.0.2.66'],
        ['? 20 IN AAAA 2001:db8::66'],
        ['? 20 IN TXT "192.0.2.66"'],
        ['other.example. 20 IN CNAME evil.example.', 'evil.example. 20 IN A 192.0.2.66'],
        [],
    ],
)
async def test_a_record_of_another_class_owner_type_or_section_is_never_used(nameserver, answer):
    def make(query):
        message = response(query, additional=['? 20 IN A 192.0.2.66'], authority=[SOA])
        for text in answer:
            owner, ttl, rdclass, rdtype, *rdata = text.split()
            owner = query.question[0].name if owner == '?' else dns.name.from_text(owner)
            rdclass = dns.rdataclass.from_text(rdclass)
            if rdclass == dns.rdataclass.CH:
                rdata = dns.rdata.GenericRdata(rdclass, dns.rdatatype.A, bytes([192, 0, 2, 66]))
            else:
                rdata = dns.rdata.from_text(rdclass, rdtype, ' '.join(rdata))
            message.answer.append(dns.rrset.from_rdata(owner, int(ttl), rdata))
        return message.to_wire()

    resolve, _ = resolver_for(nameserver(make))
    with pytest.raises(m.NoRecords):
        await resolve('www.example.com', TYPES.A)


TIMED_OUT, REFUSED_THERE = 'timed out after 1 s', 'refused: nothing listens there'


@pytest.mark.parametrize('place', ['first', 'second', 'both', 'parallel'])
@pytest.mark.parametrize(
    ('replies', 'failure_takes', 'errors'),  # seconds until it is out; what its first and its second failure are called
    [
        ([silence], 1, [TIMED_OUT] * 2),
        ([], 0, [REFUSED_THERE] * 2),  # closed
        ([servfail], 0, ['answered SERVFAIL'] * 2),
        ([refused], 0, ['answered REFUSED'] * 2),
        ([formerr], 0, ['answered FORMERR'] * 2),
        ([notimp], 0, ['answered NOTIMP'] * 2),
        ([lame], 0, ['answered that it neither knows nor looks up the name (lame)'] * 2),
        ([truncated_and_empty], 0, ['answered with a truncated reply that holds no record'] * 2),
        ([wrong_case], 1, [TIMED_OUT] * 2),
        ([dies], 1, [TIMED_OUT, REFUSED_THERE]),
        ([after(1.5, a('192.0.2.66'))], 1, [TIMED_OUT, '192.0.2.66 after 1.5']),
        ([silence, a('192.0.2.66')], 1, [TIMED_OUT, '192.0.2.66 after 2']),  # comes back
    ],
)
async def test_a_failing_nameserver_in_every_place(nameserver, replies, failure_takes, errors, place):
    bad, good = nameserver(*replies or [silence]), nameserver(a('192.0.2.1'), address='127.0.0.2')
    also_bad = nameserver(*replies or [silence], address='127.0.0.3')
    if not replies:
        bad.close()
        also_bad.close()
    servers = {'first': [bad, good], 'second': [good, bad], 'both': [bad, also_bad], 'parallel': [bad, good]}[place]
    given = [(1, *(server.at for server in servers))] if place == 'parallel' else [(1, server.at) for server in servers] * 2
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets(*given))
    started = now()
    if place != 'both':
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert now() == started + (failure_takes if place == 'first' else 0)
        assert [len(server.queries) for server in (bad, good)] == [0 if place == 'second' or not replies else 1, 1]
    elif ' after ' in errors[1] and errors[1] != TIMED_OUT:
        address, _, seconds = errors[1].partition(' after ')
        assert texts(await resolve('www.example.com', TYPES.A)) == [address]
        assert now() == started + float(seconds)
    else:
        with pytest.raises(m.TemporaryResolverError) as caught:
            await resolve('www.example.com', TYPES.A)
        counts = [f'{errors[0]} (2 times)'] if errors[0] == errors[1] else errors
        parts = [f'{server.text} {what}' for what in counts for server in servers]
        assert str(caught.value).startswith(f'www.example.com A: {"; ".join(parts)}')
        assert ('was ignored' in str(caught.value)) == (replies == [wrong_case])
        assert now() == started + failure_takes * (2 if errors[0] != errors[1] else 4)
        asked = {REFUSED_THERE: 0 if not replies else 1}.get(errors[1], 2)
        assert [len(server.queries) for server in servers] == [asked, asked]


@pytest.mark.slow
async def test_with_a_third_of_all_datagrams_lost_whatever_was_answered_is_resolved(nameserver):
    chance = random.Random(20261123)
    answered = set()

    def lossy(query):
        if chance.random() < 0.3 or chance.random() < 0.3:  # on the way there, on the way back
            return []
        answered.add(query.question[0].name.to_text(omit_final_dot=True).lower())
        return a('192.0.2.1')(query)

    with system(nameserver(lossy), nameserver(lossy, address='127.0.0.2')):
        resolve, _ = Resolver()
        names = [f'n{i}.example' for i in range(10_000)]
        results = await asyncio.gather(*(resolve(name, TYPES.A) for name in names), return_exceptions=True)
    failed = {name for name, result in zip(names, results, strict=True) if not isinstance(result, tuple)}
    assert failed == set(names) - answered
    assert all(isinstance(result, (tuple, m.ResolverTimeout)) for result in results)
    assert 0 < len(failed) < 50  # by chance one in a thousand


async def test_five_thousand_look_ups_with_silent_nameservers_end_each_at_its_time(nameserver, monkeypatch):
    counts = count_sockets(monkeypatch)
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, nameserver(silence).at)))
    started = now()

    async def look_up(i):
        with pytest.raises(m.ResolverTimeout):
            await resolve(f'n{i}.example', TYPES.A)
        return now() - started

    assert await asyncio.gather(*(look_up(i) for i in range(5000))) == [i // 256 + 1 for i in range(5000)]
    assert (len(counts), max(counts)) == (5000, 256)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('limit', 'left', 'count'),
    [
        (1024, None, 50_000),
        (1024, 10, 2000),  # the application holds all others
    ],
)
def test_many_more_names_than_descriptors_all_resolve(anything, limit, left, count):
    code = f"""
import asyncio, os, resource, sys
sys.path.insert(0, {str(HERE)!r})
from aiodnsresolver import TYPES, Resolver
async def get_nameservers(_):
    for _ in range(5):
        yield 5, {anything!r}
async def main():
    resolve, _ = Resolver(get_nameservers=get_nameservers)
    while {left} and len(os.listdir('/proc/self/fd')) < {limit} - {left}:
        os.dup(0)
    results = await asyncio.gather(*(resolve(f'n{{i}}.example', TYPES.A) for i in range({count})))
    print(len(results), {{str(address) for result in results for address in result}})
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr) == (f"{count} {{'127.0.0.1'}}\n", '')


@pytest.mark.parametrize('error', [errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EPERM])
async def test_where_a_family_is_not_to_be_had_the_other_is_asked(nameserver, monkeypatch, error):
    class OnlyFour(m.Socket):
        def __new__(cls, family, kind):
            if family == socket.AF_INET6:
                raise OSError(error, os.strerror(error))
            return super().__new__(cls, family, kind)

    monkeypatch.setattr(m, 'Socket', OnlyFour)
    server = nameserver(a('192.0.2.1'))
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((1, ('2001:db8::53', 53)), (1, server.at)))
    started = now()
    assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
    assert now() == started


async def test_a_task_group_of_look_ups_ends_as_one_of_sleeps(nameserver):
    resolve, _ = Resolver(get_host=no_host, get_nameservers=sets((5, nameserver(silence).at)))

    async def fail():
        await asyncio.sleep(0.3)
        raise ZeroDivisionError

    started = now()
    with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(resolve(name, TYPES.A)) for name in ('same.example', 'same.example', 'other.example')]
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert all(task.cancelled() for task in tasks)
    assert now() == started + 0.3


MODES = {
    'answer': a('192.0.2.1', ttl=3),
    'none': nxdomain,
    'no records': nodata,
    'fault': servfail,
    'silence': silence,
    'late': after(1.2, a('192.0.2.1')),
    'alias': alias('z.example', ttl=1),
}


def check_after_each_step(loop, resolver):
    select = loop._selector.select

    def check_and_select(timeout=None):
        check_invariants(resolver)
        return select(timeout)

    loop._selector.select = check_and_select


def check_invariants(resolver):
    """What the module promises of the end of each step of the loop, in its section "Exchange"."""
    poller, sockets, cache = resolver.poller, resolver.sockets, resolver.cache
    open_ = set(poller.queries.values())
    assert len(open_) <= sockets.limit <= sockets.max_sockets
    assert all(query.sock is not None and query.fd == fd for fd, query in poller.queries.items())
    look_ups = (
        {flight.leader for flight in cache.in_flight.values()}
        | set(sockets.under_way)
        | set(sockets.beginning)
        | {query.look_up for query in open_}
    )
    for look_up in look_ups:
        queued = [query for query in look_up.in_set if not query.is_sent]
        assert (
            not (queued and look_up.woken is not None and not look_up.woken.done())
            or look_up in sockets.under_way
            or look_up in sockets.beginning
            or sockets.outbox
        )
        active = [query for query in look_up.in_set if query.is_sent]
        assert not active or look_up in look_up.deadline.look_ups
        spare = [query for query in look_up.queries if query not in look_up.in_set]
        assert all(query in sockets.spare for query in spare)
    assert set(sockets.spare) <= open_
    queue = sockets.under_way or sockets.beginning
    if queue and not sockets.is_flush_due:
        needed = sum(query.sock is None for query in next(iter(queue)).in_set)
        needed = min(needed, 1 if queue is sockets.under_way else sockets.limit)
        assert sockets.available() < max(needed, 1)
    if sockets.gate and not sockets.is_flush_due:
        assert sockets.available() <= sockets.queued() or next(iter(sockets.gate)).done()
    for flight in cache.in_flight.values():
        assert flight in flight.leader.led.values()
        assert flight.leader not in flight.followers
        assert all(flight in follower.followed.values() for follower in flight.followers)


class LookUps(hypothesis.stateful.RuleBasedStateMachine):
    """Many look-ups of few names, with whatever order of replies, timeouts, cancellations and clearings of the cache."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _, context: self.unseen.append(context))
        self.unseen, self.tasks = [], []
        Clock(self.loop)
        self.step(self.begin())

    async def begin(self):
        self.server = Scripted('127.0.0.1', [lambda query: MODES[self.mode](query)])
        self.mode = 'answer'
        self.readers = readers_of(self.loop)
        get_nameservers = rounds(self.server, timeout=1, times=3)
        self.resolver = m.LoopResolver(self.loop, no_host, get_nameservers, mix_case, None, 3, 100)
        check_after_each_step(self.loop, self.resolver)

    def step(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    @hypothesis.stateful.rule(mode=st.sampled_from(sorted(MODES)))
    def reply_so(self, mode):
        self.mode = mode

    @hypothesis.stateful.rule(
        names=st.lists(st.sampled_from('abcdef'), min_size=1, max_size=6),
        qtype=st.sampled_from([TYPES.A, TYPES.AAAA, (TYPES.A, TYPES.AAAA), (TYPES.AAAA, TYPES.A)]),
    )
    def look_up(self, names, qtype):
        for name in names:
            self.tasks.append(self.loop.create_task(self.resolver.resolve(f'{name}.example', qtype, self.loop.time())))

    @hypothesis.stateful.rule(which=st.lists(st.integers(0, 50), max_size=4))
    def cancel(self, which):
        for index in which:
            if index < len(self.tasks):
                self.tasks[index].cancel()

    @hypothesis.stateful.rule(steps=st.integers(1, 4))
    def go_on(self, steps):
        for _ in range(steps):
            self.step(asyncio.sleep(0))

    @hypothesis.stateful.rule(seconds=st.sampled_from([0.1, 0.999, 1, 1.2, 3, 10]))
    def pass_time(self, seconds):
        self.step(asyncio.sleep(seconds))

    @hypothesis.stateful.rule()
    def clear(self):
        self.resolver.cache.clear()

    def teardown(self):
        self.step(asyncio.sleep(1000))
        for task in self.tasks:
            assert task.done()
            if not task.cancelled() and task.exception() is None:
                assert set(texts(task.result())) == {'192.0.2.1'}
            elif not task.cancelled():
                assert isinstance(task.exception(), (m.DoesNotExist, m.ResponseCodeError, m.ResolverTimeout, m.AliasChainTooLong))
        resolver = self.resolver
        assert (resolver.poller.epoll, resolver.poller.queries, resolver.cache.in_flight) == (None, {}, {})
        sockets = resolver.sockets
        assert not any([sockets.gate, sockets.queued(), sockets.spare, sockets.outbox])
        assert readers_of(self.loop) == self.readers
        assert not asyncio.all_tasks(self.loop)
        self.server.close()
        self.loop.close()
        gc.collect()
        assert not self.unseen


TestLookUps = LookUps.TestCase
TestLookUps.settings = hypothesis.settings(max_examples=100, stateful_step_count=30, deadline=None)


async def run_schedule(chance):
    """One schedule drawn by chance: hooks that sleep and that resolve, EMFILE, cancellation, one to five sockets, sets, families."""
    server = Scripted('127.0.0.1', [lambda query: MODES[chance.choice(sorted(MODES))](query)])
    with contextlib.closing(server):
        await run_schedule_with(server, chance)


async def run_schedule_with(server, chance):
    loop = asyncio.get_running_loop()
    ScarceInTurn.room = chance.choice([1, 2, 4, 1000])

    async def get_nameservers(fqdn):
        for _ in range(chance.randrange(4)):
            if chance.random() < 0.3:
                await asyncio.sleep(chance.choice([0, 0, 0.1, 1]))
            if chance.random() < 0.2 and len(fqdn) == len('a.example') and fqdn != b'z.example':
                with contextlib.suppress(m.ResolverError):
                    await resolve(f'inner{chance.randrange(3)}.example', TYPES.A)
            yield chance.choice([0.1, 0.5, 1]), *[server.at] * chance.choice([1, 1, 2, 3])

    async def resolve(name, qtype):
        return await resolver.resolve(name, qtype, loop.time())

    resolver = m.LoopResolver(loop, no_host, get_nameservers, mix_case, None, chance.randint(1, 5), 100)
    check_after_each_step(loop, resolver)
    tasks = []
    for _ in range(chance.randint(1, 15)):
        qtype = chance.choice([TYPES.A, TYPES.AAAA, (TYPES.A, TYPES.AAAA)])
        tasks.append(asyncio.ensure_future(resolve(f'{chance.choice("abcdefgh")}.example', qtype)))
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(chance.choice([0, 0, 0.1, 0.7]))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
    await asyncio.wait(tasks, timeout=1000)
    assert all(task.done() for task in tasks), 'a deadlock'
    for task in tasks:
        assert task.cancelled() or isinstance(task.exception(), (m.ResolverError, type(None)))
    sockets = resolver.sockets
    left = sockets.gate, sockets.queued(), sockets.spare, sockets.outbox, resolver.cache.in_flight, resolver.poller.queries
    assert not any(left)
    await asyncio.sleep(2)
    assert resolver.poller.epoll is None


class ScarceInTurn(m.Socket):
    room = open = 0

    def __init__(self, *args):
        if ScarceInTurn.open >= ScarceInTurn.room:
            raise OSError(errno.EMFILE, 'Too many open files')
        super().__init__(*args)
        ScarceInTurn.open += 1

    def close(self):
        ScarceInTurn.open -= self.fileno() >= 0
        super().close()


def fuzz_schedules(monkeypatch, seeds):
    monkeypatch.setattr(m, 'Socket', ScarceInTurn)
    for seed in seeds:
        loop = asyncio.new_event_loop()
        Clock(loop)
        select = loop._selector.select
        ScarceInTurn.open = 0
        try:
            loop.run_until_complete(run_schedule(random.Random(seed)))
        except AssertionError as error:
            loop._selector.select = select  # without a check
            loop.set_exception_handler(lambda *_: None)
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0.1))
            raise AssertionError(f'schedule {seed}: {error}') from None
        finally:
            loop.close()


def test_whatever_the_schedule_all_look_ups_end(monkeypatch):
    fuzz_schedules(monkeypatch, range(300))


@pytest.mark.parametrize('wake_up', ['after a look-up left the gate', 'after sockets became spare'])
def test_the_schedules_find_a_deadlock_where_one_of_the_wake_ups_is_missing(monkeypatch, wake_up):
    name = 'dequeue' if 'spare' in wake_up else 'pass_gate'
    source = textwrap.dedent(inspect.getsource(getattr(m.Sockets, name)))
    mutant = source.replace('self.flush_soon()', 'pass')
    assert mutant != source
    namespace = dict(vars(m))
    exec('from __future__ import annotations\n' + mutant, namespace)
    monkeypatch.setattr(m.Sockets, name, namespace[name])
    with pytest.raises(AssertionError, match='schedule'):
        fuzz_schedules(monkeypatch, range(300))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_look_ups_leave_memory_and_descriptors_as_the_first_twenty_thousand(nsd):
    code = """
def measure():
    gc.collect()
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE'), len(os.listdir('/proc/self/fd')), len(gc.get_objects())
async def look_up(resolve, names):
    for name in names:
        await resolve(name, TYPES.A)
async def main():
    resolve, _ = Resolver(get_nameservers=get_nameservers, max_cache_size=1000)
    found = []
    for start, stop in (0, 20_000), (20_000, 1_000_000):
        names = (f'n{i}.wild.zone.example' for i in range(start, stop))
        await asyncio.gather(*(look_up(resolve, names) for _ in range(100)))
        found.append(measure())
    before, after = found
    print(after[0] - before[0] < 2_000_000, after[1] == before[1], abs(after[2] - before[2]) < 500)
asyncio.run(main())
"""
    assert output_of(nsd, code) == ('True True True\n', '')


@pytest.mark.parametrize(
    'reply_', [a('192.0.2.1'), nxdomain, servfail, silence, alias('other.example'), after(0.7, a('192.0.2.1')), b'gone']
)
@pytest.mark.parametrize('together', [1, 2])
async def test_a_look_up_leaves_nothing_to_the_garbage_collector(nameserver, reply_, together):
    server = nameserver(silence if reply_ == b'gone' else reply_)
    if reply_ == b'gone':
        server.close()
    resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server, times=2))

    async def look_up(name):
        with contextlib.suppress(m.ResolverError):
            await resolve(name, TYPES.A)

    await look_up('first.example')
    gc.collect()
    gc.disable()
    try:
        for i in range(100):
            await asyncio.gather(*(look_up(f'n{i}.example') for _ in range(together)))
        assert gc.collect() < 100
    finally:
        gc.enable()


async def all_ask_the_same(server, n):
    resolve, _ = resolver_for(server)
    await asyncio.gather(*(resolve('www.example.com', TYPES.A) for _ in range(n)))


async def all_who_wait_are_cancelled(server, n):
    resolve, _ = resolver_for(server)
    tasks = [asyncio.ensure_future(resolve('www.example.com', TYPES.A)) for _ in range(n)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def all_wait_for_one_socket(server, n):
    resolve, _ = resolver_for(server, max_sockets=1)
    await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(n)))


async def all_who_wait_for_a_socket_are_cancelled(server, n):
    resolve, _ = resolver_for(server, max_sockets=1)
    tasks = [asyncio.ensure_future(resolve(f'n{i}.example', TYPES.A)) for i in range(n)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def a_reply_has_many_addresses(server, n):
    server.replies = [a(*(f'10.0.{i >> 8}.{i & 255}' for i in range(n)))]
    resolve, _ = resolver_for(server)
    assert len(await resolve('www.example.com', TYPES.A)) == n


async def a_search_list_is_long(server, n):
    server.replies = [nxdomain]
    with system(server, search=' '.join(f'd{i}.example' for i in range(n))):
        resolve, _ = Resolver()
        with pytest.raises(m.NameDoesNotExist):
            await resolve('db', TYPES.A)


async def the_hosts_file_is_long(server, n):
    with system(server, hosts=''.join(f'10.0.{i >> 8}.{i & 255} same.lan host{i}.lan\n' for i in range(n))):
        resolve, _ = Resolver()
        assert len(await resolve('same.lan', TYPES.A)) == n


@pytest.mark.parametrize(
    'scenario',
    [
        all_ask_the_same,
        all_who_wait_are_cancelled,
        all_wait_for_one_socket,
        all_who_wait_for_a_socket_are_cancelled,
        a_reply_has_many_addresses,
        a_search_list_is_long,
        the_hosts_file_is_long,
    ],
)
async def test_no_step_is_quadratic_in_what_a_user_can_make_large(nameserver, scenario):
    calls = []
    for n in (100, 400):
        server = nameserver(a('192.0.2.1'))
        count = itertools.count()
        sys.setprofile(lambda frame, event, _, count=count: 'aiodnsresolver' in frame.f_code.co_filename and next(count))
        try:
            await scenario(server, n)
        finally:
            sys.setprofile(None)
        calls.append(next(count))
    assert calls[1] < 4.5 * calls[0]


def is_by_chance(counts):
    """Pearson's chi-square test that counts are of equal chance, failing for one in a billion of those that are (Wilson and Hilferty's bound)."""
    freedom, expected = len(counts) - 1, sum(counts) / len(counts)
    bound = freedom * (1 - 2 / (9 * freedom) + 6 * math.sqrt(2 / (9 * freedom))) ** 3
    return sum((count - expected) ** 2 / expected for count in counts) < bound


def are_unpredictable(numbers, bits):
    """Whether the high and the low bits of numbers, and of how far each is from the one before, are by chance."""
    steps = [(after - before) % (1 << bits) for before, after in itertools.pairwise(numbers)]
    digits = [[value >> shift & 15 for value in values] for values in (numbers, steps) for shift in (0, bits - 4)]
    return all(is_by_chance([digit.count(value) for value in range(16)]) for digit in digits)


def are_mixed(names):
    """Whether each letter, and each pair of neighbours, of equal names has its case by chance."""
    cases = [[letter.isupper() for letter in name if letter.isalpha()] for name in names]
    letters = [list(column) for column in zip(*cases, strict=True)]
    pairs = [[2 * one + two for one, two in zip(*columns, strict=True)] for columns in itertools.pairwise(letters)]
    repeats = [before == after for before, after in itertools.pairwise(letters[0])]
    return all(
        is_by_chance([column.count(value) for value in range(size)])
        for columns, size in ((letters, 2), (pairs, 4), ([repeats], 2))
        for column in columns
    )


def test_the_statistics_would_see_what_is_no_chance():
    chance = random.Random(1)
    good = [chance.randrange(1 << 16) for _ in range(10_000)]
    assert are_unpredictable(good, 16)
    assert not are_unpredictable(range(10_000), 16)
    assert not are_unpredictable([7] * 10_000, 16)
    assert not are_unpredictable([number & 0xFFF for number in good], 16)
    assert are_mixed([mix_case(b'www.example.com').decode() for _ in range(10_000)])
    assert not are_mixed(['www.example.com'] * 10_000)
    assert not are_mixed([chance.choice(['www.example.com', 'WWW.EXAMPLE.COM']) for _ in range(10_000)])
    assert not are_mixed(['www.example.com', 'WWW.EXAMPLE.COM'] * 5000)


PORTS = [int(word) for word in pathlib.Path('/proc/sys/net/ipv4/ip_local_port_range').read_text().split()]


async def test_ids_ports_and_letter_case_of_ten_thousand_queries_are_by_chance(nameserver, monkeypatch):
    counts = count_sockets(monkeypatch)
    server = nameserver(a('192.0.2.1', ttl=0))
    resolve, _ = resolver_for(server)
    for _ in range(10_000):
        await resolve('www.example.com', TYPES.A)
    assert are_unpredictable([int.from_bytes(wire[:2], 'big') for *_, wire, _ in server.queries], 16)
    assert are_mixed([name for name, *_ in server.queries])
    ports = [address[1] for *_, address in server.queries]
    low, high = PORTS
    span = high - low + 1
    assert is_by_chance([sum((port - low) * 16 // span == part for port in ports) for part in range(16)])
    assert is_by_chance([sum((after - before) % 16 == rest for before, after in itertools.pairwise(ports)) for rest in range(16)])
    assert len(counts) == len(server.queries) == 10_000  # a socket each


# --- Suites that exist ------------------------------------------------------------------------------------------------------------------------


LOOP = asyncio.new_event_loop()  # one loop that lives for all tests of this kind


def teardown_module():
    LOOP.close()


class TestSuiteThatExists(unittest.TestCase):
    """The interface as suites drive it that were written against it: `unittest`, and one loop for all tests."""

    def run_in_loop(self, coroutine):
        return LOOP.run_until_complete(coroutine)

    def nameserver(self, port, respond):
        """A nameserver of the module's own parts. `respond` makes the records of a query's answer section."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.bind(('127.0.0.1', port))
        except OSError as error:
            sock.close()
            needs_what_is_missing(f'127.0.0.1:{port} to bind to: {error}')
        self.queried = []

        async def serve():
            while True:
                data, address = await recvfrom(LOOP, [sock], 512)
                query = parse(data)
                self.queried.append((port, query.qd[0].name))
                response_ = Message(
                    qid=query.qid, qr=RESPONSE, opcode=0, aa=0, tc=0, rd=0, ra=1, z=0, rcode=0,
                    qd=query.qd, an=tuple(respond(query)), ns=(), ar=(),
                )  # fmt: skip
                sock.sendto(pack(response_), address)

        task = asyncio.ensure_future(serve(), loop=LOOP)

        def stop():
            task.cancel()
            self.run_in_loop(asyncio.gather(task, return_exceptions=True))
            sock.close()

        self.addCleanup(stop)

    def patch_open(self, hosts=(), resolv_conf=('nameserver 127.0.0.1',)):
        def open_(path, mode):
            context = unittest.mock.MagicMock()
            context.__enter__.return_value = {'/etc/hosts': list(hosts), '/etc/resolv.conf': list(resolv_conf)}[path]
            return context

        patch = unittest.mock.patch('aiodnsresolver.open', side_effect=open_)
        patch.start()
        self.addCleanup(patch.stop)

    def a_record(self, query, address, ttl=20):
        return [ResourceRecord(name=query.qd[0].name, qtype=TYPES.A, qclass=1, ttl=ttl, rdata=ipaddress.ip_address(address).packed)]

    def test_an_address_from_port_53_of_resolv_conf(self):
        self.patch_open()
        self.nameserver(53, lambda query: self.a_record(query, '123.100.123.1'))
        resolve, clear_cache = Resolver()
        addresses = self.run_in_loop(resolve('some.domain', TYPES.A))
        assert texts(addresses) == ['123.100.123.1']
        self.run_in_loop(resolve('some.domain', TYPES.A))
        clear_cache()
        self.run_in_loop(resolve('some.domain', TYPES.A))
        assert len(self.queried) == 2

    def test_an_address_from_the_hosts_file(self):
        self.patch_open(hosts=['127.0.0.1 localhost', '127.0.0.5 some.domain'])
        resolve, _ = Resolver()
        assert texts(self.run_in_loop(resolve('some.domain', TYPES.A))) == ['127.0.0.5']

    def test_an_alias_and_records_of_a_replaced_name(self):
        self.patch_open()

        def respond(query):
            other = query.qd[0]._replace(name=b'another.domain')
            if query.qd[0].name.lower() == b'some.domain':
                return [ResourceRecord(name=query.qd[0].name, qtype=TYPES.CNAME, qclass=1, ttl=100, rdata=other.name)]
            return self.a_record(query, '123.100.123.2')

        self.nameserver(53, respond)
        resolve, _ = Resolver()
        assert texts(self.run_in_loop(resolve('some.domain', TYPES.A))) == ['123.100.123.2']

    def test_a_reply_with_a_replaced_question_is_ignored(self):
        self.patch_open()
        self.nameserver(53, lambda query: self.a_record(query._replace(qd=(query.qd[0]._replace(name=b'else.domain'),)), '123.100.123.3'))
        resolve, _ = Resolver()
        with self.assertRaises(m.DoesNotExist):
            self.run_in_loop(resolve('some.domain', TYPES.A))

    def test_two_nameservers_on_ports_53_and_54_at_once(self):
        self.nameserver(53, lambda query: self.a_record(query, '123.100.123.53'))
        self.nameserver(54, lambda query: self.a_record(query, '123.100.123.53'))

        async def get_nameservers(_):
            yield (0.5, ('127.0.0.1', 53), ('127.0.0.1', 54))

        resolve, _ = Resolver(get_nameservers=get_nameservers)
        assert texts(self.run_in_loop(resolve('some.domain', TYPES.A))) == ['123.100.123.53']

    def test_time_that_is_made_to_jump(self):
        self.patch_open()
        self.nameserver(53, lambda query: self.a_record(query, '123.100.123.4', ttl=3600))
        resolve, _ = Resolver()
        ahead, timers = [0], []
        real_time, real_call_at = LOOP.time, LOOP.call_at

        def call_at(when, callback, *args, context=None):
            handle = asyncio.TimerHandle(when, callback, args, LOOP, context)
            timers.append(handle)
            return handle

        def jump(seconds):
            ahead[0] += seconds
            for handle in sorted(timers, key=lambda handle: handle.when()):
                if handle.when() <= LOOP.time() and not handle.cancelled():
                    timers.remove(handle)
                    handle._run()

        with (
            unittest.mock.patch.object(LOOP, 'time', lambda: real_time() + ahead[0]),
            unittest.mock.patch.object(LOOP, 'call_at', call_at),
            unittest.mock.patch.object(LOOP, 'call_later', lambda delay, *args, **options: call_at(LOOP.time() + delay, *args, **options)),
        ):
            self.run_in_loop(resolve('some.domain', TYPES.A))
            jump(3599)
            self.run_in_loop(resolve('some.domain', TYPES.A))
            assert len(self.queried) == 1
            jump(1)
            self.run_in_loop(resolve('some.domain', TYPES.A))
            assert len(self.queried) == 2
            silent = asyncio.ensure_future(
                Resolver(get_nameservers=sets((0.5, ('127.0.0.1', 9))), get_host=no_host)[0]('x', TYPES.A), loop=LOOP
            )
            self.run_in_loop(asyncio.sleep(0))
            jump(10)
            with self.assertRaises(m.TemporaryResolverError):
                self.run_in_loop(silent)
        assert real_call_at == LOOP.call_at
        self.run_in_loop(resolve('another.domain', TYPES.A))
        with unittest.mock.patch.object(LOOP, 'time', lambda: real_time() + 7200):  # in the resolver that has been used before
            (address,) = self.run_in_loop(resolve('some.domain', TYPES.A))
        assert address.expires_at > real_time() + 7200 + 3590

    def test_a_look_up_that_is_cancelled_at_every_possible_moment(self):
        self.patch_open()
        self.nameserver(53, lambda query: self.a_record(query, '123.100.123.5', ttl=0))
        resolve, _ = Resolver()
        for steps in range(12):
            first, second = (asyncio.ensure_future(resolve('some.domain', TYPES.A), loop=LOOP) for _ in range(2))
            for _ in range(steps):
                self.run_in_loop(asyncio.sleep(0))
            first.cancel()
            assert texts(self.run_in_loop(second)) == ['123.100.123.5']
            self.run_in_loop(asyncio.gather(first, return_exceptions=True))


# --- Real nameservers ---------------------------------------------------------------------------------------------------------------------------


def needs_what_is_missing(what):
    """With CI=true nothing may be missing; elsewhere the test says why it is skipped."""
    if os.environ.get('CI') == 'true':
        pytest.fail(f'this test needs {what}')
    pytest.skip(f'this test needs {what}')


def program(name):
    path = shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin:/usr/local/sbin')
    return path or needs_what_is_missing(f'the program {name}')


def free_port():
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp, contextlib.suppress(OSError):
            udp.bind(('127.0.0.1', 0))
            tcp.bind(udp.getsockname())
            return udp.getsockname()[1]


@contextlib.contextmanager
def running(command, port, name, directory):
    """A nameserver in a process of its own, from when it knows the name."""
    log = directory / 'log'
    with log.open('wb') as file, subprocess.Popen(command, stdout=file, stderr=file, cwd=directory) as process:
        try:
            for _ in range(200):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
                    sock.settimeout(0.05)
                    sock.connect(('127.0.0.1', port))
                    sock.send(dns.message.make_query(name, 'A').to_wire())
                    if dns.message.from_wire(sock.recv(4096)).rcode() == 0:
                        break
                time.sleep(0.05)
            else:
                pytest.fail(f'{command} does not answer: {log.read_text()}')
            yield '127.0.0.1', port
        finally:
            process.terminate()


ZONE = """\
$ORIGIN zone.example.
$TTL 300
@ SOA ns.zone.example. admin.zone.example. 1 3600 600 86400 30
@ NS ns
ns A 127.0.0.1
text TXT "some thing\\009with \\"quotes\\" and \\\\ in it"
www 60 A 192.0.2.1
www 60 AAAA 2001:db8::1
four CNAME three
three 20 CNAME two
two CNAME one
one CNAME www
dangling CNAME nothing
outside CNAME www.elsewhere.example.
many A 192.0.2.0
only4 A 192.0.2.4
txt TXT "some" " text"
xn--bcher-kva A 192.0.2.5
*.wild A 192.0.2.6
""" + ''.join(f'forty A 198.51.100.{i}\n' for i in range(40))


@pytest.fixture(scope='session')
def nsd(tmp_path_factory):
    directory, port = tmp_path_factory.mktemp('nsd'), free_port()
    (directory / 'zone').write_text(ZONE)
    (directory / 'nsd.conf').write_text(f"""
server:
    ip-address: 127.0.0.1@{port}
    username: ""
    database: ""
    zonesdir: "{directory}"
    pidfile: "{directory}/pid"
    xfrdfile: "{directory}/xfrd"
    zonelistfile: "{directory}/list"
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: zone.example
    zonefile: zone
""")
    with running([program('nsd'), '-d', '-c', str(directory / 'nsd.conf')], port, 'www.zone.example', directory) as address:
        yield address


@pytest.fixture(scope='session')
def unbound(nsd, tmp_path_factory):
    directory, port = tmp_path_factory.mktemp('unbound'), free_port()
    (directory / 'unbound.conf').write_text(f"""
server:
    interface: 127.0.0.1@{port}
    username: ""
    chroot: ""
    directory: "{directory}"
    pidfile: "{directory}/pid"
    use-syslog: no
    do-not-query-localhost: no
    module-config: iterator
stub-zone:
    name: zone.example
    stub-addr: 127.0.0.1@{nsd[1]}
""")
    with running([program('unbound'), '-d', '-c', str(directory / 'unbound.conf')], port, 'www.zone.example', directory) as address:
        yield address


@pytest.fixture(scope='session')
def bind(tmp_path_factory):
    directory, port = tmp_path_factory.mktemp('bind'), free_port()
    (directory / 'zone').write_text(ZONE)
    (directory / 'named.conf').write_text(f"""
options {{
    directory "{directory}"; pid-file "{directory}/pid"; session-keyfile "{directory}/key"; listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }}; recursion no; dnssec-validation no;
}};
controls {{ }};
zone "zone.example" {{ type primary; file "zone"; }};
""")
    with running([program('named'), '-g', '-c', str(directory / 'named.conf')], port, 'www.zone.example', directory) as address:
        yield address


@pytest.fixture(scope='session')
def dnsmasq(tmp_path_factory):
    directory, port = tmp_path_factory.mktemp('dnsmasq'), free_port()
    (directory / 'hosts').write_text('192.0.2.1 www.zone.example\n2001:db8::1 www.zone.example\n192.0.2.4 only4.zone.example\n')
    command = [
        program('dnsmasq'),
        '--keep-in-foreground',
        '--conf-file=/dev/null',
        '--no-resolv',
        '--no-hosts',
        f'--port={port}',
        '--user=',
    ]
    command += ['--listen-address=127.0.0.1', '--bind-interfaces', f'--addn-hosts={directory}/hosts', f'--pid-file={directory}/pid']
    command += [
        '--local=/zone.example/',
        '--cname=four.zone.example,www.zone.example',
        '--local-ttl=60',
        '--txt-record=txt.zone.example,some, text',
    ]
    with running(command, port, 'www.zone.example', directory) as address:
        yield address


def resolver_at(address):
    return Resolver(get_host=no_host, get_nameservers=sets((5, address), (5, address)))[0]


REAL = pytest.mark.parametrize(
    ('name', 'qtype', 'expected'),
    [
        ('www', TYPES.A, ['192.0.2.1']),
        ('www', TYPES.AAAA, ['2001:db8::1']),
        ('four', TYPES.A, ['192.0.2.1']),
        ('four', TYPES.AAAA, ['2001:db8::1']),
        ('only4', TYPES.AAAA, m.NoRecords),
        ('nothing', TYPES.A, m.NameDoesNotExist),
        ('txt', TYPES.TXT, ["b'some text'"]),
    ],
)
REAL_ZONE = pytest.mark.parametrize(
    ('name', 'qtype', 'expected'),
    [
        ('dangling', TYPES.A, m.NameDoesNotExist),
        ('three', TYPES.CNAME, ["b'two.zone.example'"]),
        ('bücher', TYPES.A, ['192.0.2.5']),
        ('anything.wild', TYPES.A, ['192.0.2.6']),
    ],
)


async def check_real(address, name, qtype, expected):
    resolve = resolver_at(address)
    for _ in range(2):
        if isinstance(expected, list):
            records = await resolve(f'{name}.zone.example', qtype)
            assert texts(records) == expected
            assert all(0 < record.expires_at - now() < 300.001 for record in records)
        else:
            with pytest.raises(expected, match=f'{name}.zone.example {qtype.name}'):
                await resolve(f'{name}.zone.example', qtype)


@pytest.mark.parametrize('server', ['unbound', 'nsd', 'bind', 'dnsmasq'])
@pytest.mark.parametrize('loop_factory', LOOPS)
@REAL
def test_real_nameservers_answer(request, server, loop_factory, name, qtype, expected):
    run(check_real(request.getfixturevalue(server), name, qtype, expected), loop_factory)


@pytest.mark.parametrize('server', ['unbound', 'nsd', 'bind'])
@REAL_ZONE
def test_real_nameservers_answer_from_the_zone(request, server, name, qtype, expected):
    run(check_real(request.getfixturevalue(server), name, qtype, expected))


@pytest.mark.parametrize('server', ['unbound', 'nsd', 'bind'])
def test_of_forty_addresses_those_that_fit_are_given(request, server):
    async def scenario():
        addresses = await resolver_at(request.getfixturevalue(server))('forty.zone.example', TYPES.A)
        assert {str(address) for address in addresses} <= {f'198.51.100.{i}' for i in range(40)}
        assert len(addresses) >= 1

    try:
        run(scenario())
    except m.TemporaryResolverError as error:
        assert 'truncated reply that holds no record' in str(error)


def test_a_real_chain_of_four_expires_with_its_shortest_link(unbound):
    async def scenario():
        (address,) = await resolver_at(unbound)('four.zone.example', TYPES.A)
        assert 0 < address.expires_at - now() < 20.001

    run(scenario())


def test_an_alias_out_of_the_zone_is_asked_for_and_refused(nsd):
    with pytest.raises(m.ResponseCodeError, match=r'www\.elsewhere\.example A: 127\.0\.0\.1:\d+ answered REFUSED'):
        run(resolver_at(nsd)('outside.zone.example', TYPES.A))


@pytest.mark.parametrize('loop_factory', LOOPS)
def test_a_thousand_names_at_once_from_a_real_nameserver(nsd, loop_factory):
    async def scenario():
        resolve = resolver_at(nsd)
        results = await asyncio.gather(*(resolve(f'n{i}.wild.zone.example', TYPES.A) for i in range(1000)))
        assert {texts(result)[0] for result in results} == {'192.0.2.6'}

    run(scenario(), loop_factory)


# --- getaddrinfo --------------------------------------------------------------------------------------------------------------------------------

STREAM = {'type': socket.SOCK_STREAM}
C_HOSTS = """
127.0.0.1 localhost
::1 localhost
192.0.2.1 both.test alias.test
2001:db8::1 both.test
192.0.2.4 FOUR.test
2001:db8::6 six.test
fe80::1%lo scoped.test
192.0.2.7 many.test
192.0.2.8 many.test
192.0.2.5 xn--bcher-kva.test
::ffff:192.0.2.9 mapped.test
"""
# What both are asked, beside each other; where they differ, why: the difference is named in the docstring.
CALLS = [
    *[((host, 80), STREAM, '') for host in ('four.test', 'FOUR.Test', 'six.test', 'many.test', 'localhost', 'mapped.test', 'bücher.test')],
    *[((host, 80), STREAM, '') for host in (b'four.test', b'192.0.2.1', None)],
    *[((host, 80), STREAM, '') for host in ('127.0.0.1', '127.1', '0x7f.1', '2130706433', '::1', '::ffff:1.2.3.4', 'fe80::1%lo', 'fe80::1%1', '2001:DB8::1')],
    (('both.test', 80), STREAM, 'order'),
    (('192.0.2.1.', 80), STREAM, 'final dot'),
    (('four.test.', 80), STREAM, 'found in the hosts file'),
    (('scoped.test', 80), STREAM, 'found in the hosts file'),
    *[(('four.test', port), STREAM, '') for port in (None, 0, 65535, '80', b'80', 'http', 'https', '')],
    *[(('four.test', port), {}, '') for port in (80, 'http', 'domain')],
    *[(('192.0.2.1', port), {}, '') for port in (80, 'http', None)],
    *[(('both.test', 80), {'family': family, **STREAM}, '') for family in (socket.AF_INET, socket.AF_INET6)],
    *[(('four.test', 80), {'type': kind}, '') for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, 0)],
    *[(('four.test', 80), {'proto': proto}, '') for proto in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)],
    (('four.test', 80), {'type': socket.SOCK_STREAM, 'proto': socket.IPPROTO_UDP}, ''),
    *[(('four.test', 80), {'flags': flags, **STREAM}, '') for flags in (socket.AI_NUMERICSERV, socket.AI_PASSIVE, socket.AI_ADDRCONFIG)],
    (('many.test', 80), {'flags': socket.AI_CANONNAME, **STREAM}, ''),
    *[((host, 80), {'flags': socket.AI_CANONNAME, **STREAM}, 'canonical name') for host in ('four.test', 'alias.test')],
    ((None, 80), {'flags': socket.AI_PASSIVE, **STREAM}, ''),
    # errors
    *[((host, 80), {'flags': socket.AI_NUMERICHOST}, '') for host in ('four.test', 'localhost', '')],
    (('127.1', 80), {'flags': socket.AI_NUMERICHOST, **STREAM}, ''),
    *[((host, port), {}, '') for host, port in ((None, None), ('four.test', 'nosuch'), ('four.test', -1), ('192.0.2.1', 'nosuch'), ('nosuch.test', 80), ('', 80))],
    (('four.test', 'http'), {'flags': socket.AI_NUMERICSERV}, ''),
    *[(('four.test', 80), {'family': family}, '') for family in (socket.AF_UNIX, 99)],
    *[(('192.0.2.1', 80), {'family': family}, '') for family in (socket.AF_UNIX, socket.AF_INET6)],
    (('::1', 80), {'family': socket.AF_INET}, ''),
    (('four.test', 80), {'type': 99}, ''),
    (('four.test', 80), {'proto': 99}, ''),
    (('four.test', 80), {'flags': 1 << 20}, ''),
    *[((host, 80), {}, 'UnicodeError') for host in ('a..b', 'a' * 64, '\ud800')],
    (('a b', 80), {}, ''),
]  # fmt: skip


def outcome_of(call):
    try:
        infos = call()
        return [[int(info[0]), int(info[1]), info[2], info[3], list(info[4])] for info in infos]
    except (OSError, UnicodeError) as error:
        return f'{type(error).__name__} {getattr(error, "errno", None)}'


def print_calls():
    """For a process whose hosts file is that above: each call's outcome by the C library and by ours."""
    resolve, _ = Resolver()
    for args, options, _ in CALLS:
        theirs = outcome_of(lambda args=args, options=options: socket.getaddrinfo(*args, **options))
        ours = outcome_of(lambda args=args, options=options: asyncio.run(m.getaddrinfo(resolve, *args, **options)))
        print(json.dumps([theirs, ours]))


class TestGetaddrinfo:
    """`getaddrinfo`, section 12 of the contract."""

    def test_it_gives_what_the_c_library_gives_but_for_what_its_docstring_names(self, tmp_path):
        (tmp_path / 'hosts').write_text(C_HOSTS)
        (tmp_path / 'resolv.conf').write_text('nameserver 127.0.0.1\noptions timeout:1 attempts:1\n')
        mounts = [f'mount --bind {tmp_path}/{name} /etc/{name}' for name in ('hosts', 'resolv.conf')]
        run_ = f'{shlex.quote(sys.executable)} {shlex.quote(str(HERE / "test.py"))} calls'
        command = ' && '.join(['mount --make-rprivate /', *mounts, run_])
        done = subprocess.run(['unshare', '--mount', 'sh', '-c', command], capture_output=True, text=True, timeout=100, cwd=HERE)
        if 'unshare' in done.stderr or 'mount:' in done.stderr:
            needs_what_is_missing(f'root and mount namespaces: {done.stderr}')
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == len(CALLS) >= 60
        for (args, options, difference), line in zip(CALLS, lines, strict=True):
            theirs, ours = json.loads(line)
            call = f'{args} {options}: {theirs} {ours}'
            if difference == 'order':
                assert sorted(theirs) == sorted(ours), call
            elif difference == 'canonical name':
                assert (ours[0][3], [info[4] for info in ours]) == (args[0], [info[4] for info in theirs]), call
            elif difference == 'final dot':
                assert ours == [[2, 1, 6, '', ['192.0.2.1', 80]]], call
            elif difference == 'found in the hosts file':
                assert (theirs, len(ours), isinstance(ours, list)) == (f'gaierror {socket.EAI_AGAIN}', 1, True), call
            elif difference == 'UnicodeError':
                assert ours == f'gaierror {socket.EAI_NONAME}', call
            else:
                assert theirs == ours, call

    async def test_both_families_are_asked_for_in_one_look_up_without_a_task(self, nameserver, monkeypatch):
        monkeypatch.setattr(m, 'has_route', lambda *_: True)
        server = nameserver(after(0.1, by_type(a('192.0.2.1', '192.0.2.2'), a('2001:db8::1'))))
        resolve, _ = resolver_for(server)
        made = []
        loop = asyncio.get_running_loop()
        looking = asyncio.ensure_future(m.getaddrinfo(resolve, 'www.example.com', 443, **STREAM))
        loop.set_task_factory(lambda loop, coroutine, **options: made.append(coroutine) or asyncio.Task(coroutine, loop=loop, **options))
        infos = await looking
        loop.set_task_factory(None)
        assert infos == [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, '', ('2001:db8::1', 443, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, '', ('192.0.2.1', 443)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, '', ('192.0.2.2', 443)),
        ]
        assert ([query[2] for query in server.queries], made) == ([1000, 1000], [])

    @pytest.mark.parametrize(('family', 'asked'), [(socket.AF_INET, [1]), (socket.AF_INET6, [28]), (socket.AF_UNSPEC, [28, 1])])
    async def test_what_is_asked_for_is_the_family(self, nameserver, family, asked):
        server = nameserver(by_type(a('192.0.2.1'), a('2001:db8::1')))
        resolve, _ = resolver_for(server)
        infos = await m.getaddrinfo(resolve, 'www.example.com', 80, family=family, **STREAM)
        assert len(infos) == len(asked)
        assert [qtype for _, qtype, *_ in server.queries] == asked

    async def test_ipv6_without_a_route_comes_last(self, nameserver, monkeypatch):
        resolve, _ = resolver_for(nameserver(by_type(a('192.0.2.1'), a('2001:db8::1'))))
        for route, families in ((True, [10, 2]), (False, [2, 10])):
            monkeypatch.setattr(m, 'has_route', lambda *_, route=route: route)
            infos = await m.getaddrinfo(resolve, 'www.example.com', 80, **STREAM)
            assert [int(info[0]) for info in infos] == families

    def test_a_route_is_found_without_a_datagram(self):
        assert m.has_route('::1', 1)
        assert not m.has_route('fe80::1', 1)  # which takes a scope id

    @pytest.mark.parametrize(
        ('configured', 'family', 'asked'),
        [
            ({1}, 0, [1]),
            ({28}, 0, [28]),
            ({1, 28}, 0, [28, 1]),
            (set(), 0, [28, 1]),
            ({1}, socket.AF_INET, [1]),
            ({1}, socket.AF_INET6, None),
        ],
    )
    async def test_addrconfig_asks_for_no_family_that_this_machine_has_not(self, nameserver, monkeypatch, configured, family, asked):
        monkeypatch.setattr(m, 'is_configured', lambda qtype, _: qtype in configured)
        server = nameserver(by_type(a('192.0.2.1'), a('2001:db8::1')))
        resolve, _ = resolver_for(server)
        call = m.getaddrinfo(resolve, 'www.example.com', 80, family=family, flags=socket.AI_ADDRCONFIG)
        if asked is None:
            with pytest.raises(socket.gaierror, match='no such addresses') as caught:
                await call
            assert caught.value.errno == socket.EAI_NONAME
        else:
            await call
        assert [qtype for _, qtype, *_ in server.queries] == (asked or [])

    def test_what_is_configured_is_what_the_c_library_says(self, monkeypatch):
        m.is_configured.cache_clear()
        answers = {socket.AF_INET: [()], socket.AF_INET6: socket.gaierror(socket.EAI_NONAME, 'no')}
        monkeypatch.setattr(m.socket, 'getaddrinfo', lambda host, port, family, flags: raise_or(answers[family]))
        assert (m.is_configured(TYPES.A, -1), m.is_configured(TYPES.AAAA, -1)) == (True, False)
        m.is_configured.cache_clear()

    @pytest.mark.parametrize(
        ('reply_', 'code', 'cause'),
        [
            (nxdomain, socket.EAI_NONAME, m.NameDoesNotExist),
            (nodata, socket.EAI_NODATA, m.NoRecords),
            (servfail, socket.EAI_AGAIN, m.ResponseCodeError),
            (silence, socket.EAI_AGAIN, m.ResolverTimeout),
            (reply('? 5 IN CNAME b.example.', 'b.example. 5 IN CNAME www.example.com.'), socket.EAI_FAIL, m.AliasChainTooLong),
        ],
    )
    async def test_errors_are_gaierrors_with_our_message(self, nameserver, reply_, code, cause):
        resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(nameserver(reply_), times=1))
        with pytest.raises(socket.gaierror, match='^.*www.example.com AAAA, A: ') as caught:
            await m.getaddrinfo(resolve, 'www.example.com', 80)
        assert (caught.value.errno, type(caught.value.__cause__)) == (code, cause)
        assert caught.value.strerror == str(caught.value.__cause__)

    @pytest.mark.parametrize(
        ('host', 'port'), [('www.example.com', 'nosuch'), ('a..b', 80), ('\ud800', 80), (b'\xff\xfe', 80), ('1' * 300, 80)]
    )
    async def test_nothing_is_sent_for_bad_input(self, nameserver, host, port):
        server = nameserver(a('192.0.2.1'))
        resolve, _ = resolver_for(server)
        with pytest.raises(socket.gaierror):
            await m.getaddrinfo(resolve, host, port)
        assert server.queries == []

    async def test_the_canonical_name_is_the_one_that_was_given(self, nameserver):
        resolve, _ = resolver_for(
            nameserver(reply('? 20 IN CNAME b.example.', 'b.example. 20 IN A 192.0.2.1', 'b.example. 20 IN A 192.0.2.2'))
        )
        infos = await m.getaddrinfo(resolve, 'www.example.com', 80, family=socket.AF_INET, flags=socket.AI_CANONNAME, **STREAM)
        assert [info[3] for info in infos] == ['www.example.com', '']

    async def test_a_family_of_no_names_is_an_error_of_its_own(self, clock):
        with pytest.raises(socket.gaierror) as caught:
            await m.getaddrinfo(None, 'www.example.com', 80, family=socket.AF_UNIX)
        assert caught.value.errno == socket.EAI_FAMILY

    async def test_a_host_of_another_kind_is_a_type_error(self, clock):
        with pytest.raises(TypeError, match='host is str, bytes or None, not 5'):
            await m.getaddrinfo(Resolver()[0], 5, 80)

    async def test_numerichost_asks_nothing_whatever_the_host(self, clock):
        for host in ('www.example.com', 'a' * 64, 'localhost'):
            with pytest.raises(socket.gaierror) as caught:
                await m.getaddrinfo(None, host, 80, flags=socket.AI_NUMERICHOST)
            assert caught.value.errno == socket.EAI_NONAME

    async def test_a_name_that_begins_with_a_digit_is_asked_for(self, nameserver):
        server = nameserver(by_type(a('192.0.2.1'), nodata))
        resolve, _ = resolver_for(server)
        assert len(await m.getaddrinfo(resolve, '3com.example', 80, **STREAM)) == 1
        assert server.names == ['3com.example'] * 2

    async def test_an_address_of_a_family_that_was_not_asked_for_is_left_out(self, clock):
        async def get_host(fqdn, qtype):
            return ipaddress.ip_address('192.0.2.1')

        resolve, _ = Resolver(get_host=get_host)
        assert len(await m.getaddrinfo(resolve, 'x.example', 80, family=socket.AF_INET, **STREAM)) == 1
        with pytest.raises(socket.gaierror, match='x.example: no address is of the family') as caught:
            await m.getaddrinfo(resolve, 'x.example', 80, family=socket.AF_INET6)
        assert caught.value.errno == socket.EAI_NODATA

    async def test_a_fake_in_place_of_resolve_is_enough(self, clock):
        async def fake(name, qtype):
            return (IPv4AddressExpiresAt('192.0.2.1', 0),)

        assert [info[4] for info in await m.getaddrinfo(fake, 'www.example.com', 80, **STREAM)] == [('192.0.2.1', 80)]

    async def test_what_a_hook_raises_and_cancellation_pass(self, nameserver):
        async def get_host(fqdn, qtype):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await m.getaddrinfo(Resolver(get_host=get_host)[0], 'www.example.com', 80)
        resolve, _ = resolver_for(nameserver(silence))
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.1):
                await m.getaddrinfo(resolve, 'www.example.com', 80)
        assert not isinstance(caught.value, socket.gaierror)

    async def test_the_loop_of_asyncio_takes_it_as_its_own(self, nameserver):
        server = nameserver(by_type(a('127.0.0.1'), nodata))
        resolve, _ = resolver_for(server)
        loop = asyncio.get_running_loop()
        listening = await asyncio.start_server(lambda _, writer: writer.close(), '127.0.0.1', 0)
        with unittest.mock.patch.object(loop, 'getaddrinfo', functools.partial(m.getaddrinfo, resolve)):
            port = listening.sockets[0].getsockname()[1]
            _, writer = await asyncio.open_connection('www.example.com', port)
            writer.close()
            await writer.wait_closed()
        listening.close()
        await listening.wait_closed()
        assert server.names == ['www.example.com'] * 2


def raise_or(value):
    if isinstance(value, Exception):
        raise value
    return value


# --- Command --------------------------------------------------------------------------------------------------------------------------------------


def command(*args):
    done = subprocess.run([sys.executable, '-m', 'aiodnsresolver', *args], capture_output=True, text=True, cwd=HERE, timeout=30)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ('args', 'status', 'out', 'err'),
    [
        (['www.zone.example'], 0, r'\d+\tA\twww.zone.example\t192.0.2.1\n\d+\tAAAA\twww.zone.example\t2001:db8::1\n', ''),
        (['www.zone.example', 'A'], 0, r'\d+\tA\twww.zone.example\t192.0.2.1\n', ''),
        (['www.zone.example', 'aaaa', 'a'], 0, r'\d+\tAAAA\t.*\n\d+\tA\t.*\n', ''),
        (['only4.zone.example'], 0, r'\d+\tA\tonly4.zone.example\t192.0.2.4\n', ''),
        (['only4.zone.example', 'AAAA'], 1, '', r'only4.zone.example AAAA: has no such record: .*\n'),
        (['nothing.zone.example'], 1, '', r'nothing.zone.example A, AAAA: does not exist: .*\n'),
        (['elsewhere.example', 'A'], 2, '', r'elsewhere.example A: .* answered REFUSED \(5 times\)\n'),
        (['a..b'], 2, '', r"'a..b' is no name: it has an empty label\n"),
        (['127.0.0.1', 'A'], 0, r'-\tA\t127.0.0.1\t127.0.0.1\n', ''),
        (['::1'], 0, r'-\tAAAA\t::1\t::1\n', ''),
        (['text.zone.example', 'txt'], 0, r'\d+\tTXT\ttext.zone.example\tsome thing\\009with "quotes" and \\092 in it\n', ''),
        (['outside.zone.example', 'Cname', '--short'], 0, r'www.elsewhere.example\n', ''),
        (['text.zone.example', 'TXT', 'A'], 0, r'\d+\tTXT\t.*\n', ''),
        (['nothing.zone.example', 'www.zone.example', 'A'], 1, r'\d+\tA\twww.zone.example\t192.0.2.1\n', 'nothing.zone.example A: .*\n'),
        (['a..b', 'nothing.zone.example'], 2, '', r"'a..b' is no name.*\nnothing.zone.example A, AAAA: .*\n"),
        (['localhost', 'A'], 0, r'0\tA\tlocalhost\t127.0.0.1\n', ''),
        (['--timeout', '4', 'localhost', '--timeout', '3', 'A'], 0, r'0\tA\tlocalhost\t127.0.0.1\n', ''),
        (['www.zone.example', '-4', '--short'], 0, r'192.0.2.1\n', ''),
        (['-6', 'www.zone.example'], 0, r'\d+\tAAAA\twww.zone.example\t2001:db8::1\n', ''),
        (['-6', 'www.zone.example', '-4'], 0, r'\d+\tAAAA\t.*\n\d+\tA\t.*\n', ''),
        (
            ['localhost', '1.2.3.4', '-4', '--json'],
            0,
            r'{"name": "localhost", "type": "A", "value": "127.0.0.1", "ttl": 0}\n{"name": "1.2.3.4", "type": "A", "value": "1.2.3.4", "ttl": null}\n',
            '',
        ),
        (
            ['nothing.zone.example', 'A', '--json'],
            1,
            r'{"name": "nothing.zone.example", "error": "nothing.zone.example A: does not exist: .*"}\n',
            r'nothing.zone.example A: does not exist: .*\n',
        ),
        (
            ['only4.zone.example', '-4', '-v'],
            0,
            r'\d+\tA\tonly4.zone.example\t192.0.2.4\n',
            r'only4.zone.example A: asked 127.0.0.1:\d+\nonly4.zone.example A: 127.0.0.1:\d+ gave .*\n',
        ),
    ],
)
def test_the_command_prints_addresses_or_says_why_not(nsd, args, status, out, err):
    found = command(*args, '--nameserver', f'127.0.0.1:{nsd[1]}', '--timeout', '5')
    assert found[0] == status
    assert re.fullmatch(out, found[1])
    assert re.fullmatch(err, found[2])


@pytest.mark.parametrize(
    ('args', 'says'),
    [
        ([], 'NAME'),
        (['A'], 'a NAME is needed'),
        (['x', '@127.0.0.1'], '--nameserver 127.0.0.1'),
        (['-4'], 'NAME'),
        (['MX'], 'write one of A, CNAME, TXT, AAAA, or MX. with a final dot if it is a name'),
        (['example.com', 'mx'], 'mx is no type that can be asked for: write one of A, CNAME, TXT, AAAA'),
        (['http://me@www.example.com:80/a:b'], 'is a URL: write the name in it, www.example.com'),
        (['example.com:80'], 'example.com:80 is more than a name: write example.com'),
        (['[::1]:80'], '[::1]:80 is more than a name: write ::1'),
        (['x', '--time', '1'], '--time'),
        (['x', '--timeout', 'soon'], "invalid float value: 'soon'"),
        (['x', '--timeout', '0'], '0 is no number of seconds'),
        (['x', '--nameserver', 'dns.example'], "'dns.example' is no IP"),
        (['x', '--nameserver', '127.0.0.1:0'], '0 is no port'),
        (['x', '--nameserver', '127.0.0.1:x'], "'127.0.0.1:x' is no IP"),
        (['x', '--nameserver', '[::1]:x'], 'is no IP'),
    ],
)
def test_a_wrong_call_of_the_command_is_told_with_status_2(capsys, args, says):
    with pytest.raises(SystemExit) as caught:
        m.main(args)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ('word', 'expected'),
    [
        ('192.0.2.1', ('192.0.2.1', 53)),
        ('192.0.2.1:5353', ('192.0.2.1', 5353)),
        ('2001:db8::1', ('2001:db8::1', 53)),
        ('[2001:db8::1]', ('2001:db8::1', 53)),
        ('[2001:db8::1]:5353', ('2001:db8::1', 5353)),
    ],
)
def test_a_nameserver_of_the_command_is_understood(word, expected):
    assert m.parse_nameserver(word) == expected


def test_the_help_of_the_command_teaches_by_examples_that_are_right(capsys):
    with pytest.raises(SystemExit) as caught:
        m.main(['--help'])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert '%' not in text
    options = {word.rstrip(',') for word in re.findall(r'^  (-\S+)', text, re.MULTILINE)}
    assert options == {'-h', '-4', '-6', '--short', '--json', '--nameserver', '--timeout', '-v', '--version'}
    assert 'exit status: 0 when every name has a record' in text
    examples = [shlex.split(line.split('  ')[0]) for line in re.findall(r'^  (python -m aiodnsresolver .*)$', text, re.MULTILINE)]
    parsed = [m.parse_arguments(example[3:]) for example in examples]
    assert [options.qtypes for options in parsed] == [[], [28], [16], [], []]
    assert parsed[-1].nameservers == [('192.0.2.53', 53), ('2001:db8::53', 5353)]


def test_a_name_that_is_called_like_another_type_can_be_asked_for():
    assert m.parse_arguments(['mx']).names == ['mx']
    assert m.parse_arguments(['MX.', 'ns.', 'a.']).names == ['MX.', 'ns.', 'a.']


def test_what_only_the_command_needs_is_imported_when_it_runs():
    code = 'import asyncio, sys; before = set(sys.modules); import aiodnsresolver; print(*sorted(set(sys.modules) - before))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=HERE, timeout=30)
    assert not {'argparse', 'json', 'signal', 'dns', 'aiodns'} & set(done.stdout.split())


@pytest.mark.parametrize(
    ('word', 'seconds'), [('0.5', 0.5), ('7', 7), ('0', None), ('-1', None), ('inf', None), ('nan', None), ('x', None)]
)
def test_the_timeout_of_the_command_is_for_each_try(word, seconds, capsys):
    async def all_of(given):
        return [one async for one in given]

    if seconds is None:
        with pytest.raises(SystemExit, match='2'):
            m.parse_arguments(['name', f'--timeout={word}'])
        assert '--timeout' in capsys.readouterr().err
        return
    with unittest.mock.patch.object(m, 'Resolver') as made:
        m.resolver_of(m.parse_arguments(['name', f'--timeout={word}']))
        made.assert_called_once_with(timeout=seconds)
    for options, timeout in (([f'--timeout={word}'], seconds), ([], 0.5)):
        with unittest.mock.patch.object(m, 'Resolver') as made:
            m.resolver_of(m.parse_arguments(['name', '--nameserver=127.0.0.1:9', *options]))
        assert run(all_of(made.call_args.kwargs['get_nameservers'](b'name'))) == [(timeout, ('127.0.0.1', 9))] * 5


def test_the_command_says_its_version(capsys):
    with pytest.raises(SystemExit):
        m.main(['--version'])
    assert capsys.readouterr().out == f'{m.__version__}\n'


def test_the_command_asks_a_nameserver_of_ipv6_in_brackets():
    call = [sys.executable, '-m', 'aiodnsresolver', 'www.example.com', '-4', '--timeout', '30', '--nameserver']
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(('::1', 0))
        with subprocess.Popen([*call, f'[::1]:{server.getsockname()[1]}'], stdout=-1, stderr=-1, cwd=HERE) as process:
            wire, client = server.recvfrom(512)
            server.sendto(a('192.0.2.1', ttl=300)(dns.message.from_wire(wire)), client)
            out, err = process.communicate(timeout=60)
    assert re.fullmatch(rb'(300|29\d)\tA\twww.example.com\t192.0.2.1\n', out)
    assert (err, process.returncode) == (b'', 0)


@pytest.fixture
def sigint_is_heard():
    """Also where these tests run in the background of a shell, which has SIGINT ignored by all that it starts there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_command_without_a_traceback(sigint_is_heard):
    call = [sys.executable, '-m', 'aiodnsresolver', 'www.example.com', '--timeout', '30', '--nameserver']
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(('127.0.0.1', 0))
        with subprocess.Popen([*call, '127.0.0.1:{1}'.format(*silent.getsockname())], stdout=-1, stderr=-1, cwd=HERE) as process:
            silent.recv(512)  # it waits for the reply to this
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60) == (b'', b'')
    assert process.returncode == 130


def test_the_command_shows_what_its_output_can_and_minds_no_closed_pipe():
    call = [sys.executable, '-m', 'aiodnsresolver', 'bücher.localhost', 'A']
    done = subprocess.run(call, capture_output=True, cwd=HERE, env={**os.environ, 'PYTHONIOENCODING': 'ascii'}, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b'0\tA\tb\\xfccher.localhost\t127.0.0.1\n', b'')
    receiver, sender = os.pipe()
    os.close(receiver)
    done = subprocess.run(call, stdout=sender, stderr=subprocess.PIPE, cwd=HERE, timeout=30)
    os.close(sender)
    assert (done.returncode, done.stderr) == (128 + 13, b'')


def test_the_command_in_this_process(nsd, capfd):
    assert m.main(['www.zone.example', 'A', '--nameserver', f'127.0.0.1:{nsd[1]}', '--timeout', '5']) == 0
    assert capfd.readouterr().out.endswith('\tA\twww.zone.example\t192.0.2.1\n')
    assert m.main(['elsewhere.example', 'A', '--nameserver', f'127.0.0.1:{nsd[1]}']) == 2
    assert m.main(['192.0.2.1', 'A', '--json']) == 0
    assert capfd.readouterr().out == '{"name": "192.0.2.1", "type": "A", "value": "192.0.2.1", "ttl": null}\n'
    assert m.main(['192.0.2.1', 'AAAA']) == 1
    assert m.main(['192.0.2.1', '--short']) == 0
    assert m.main(['text.zone.example', 'outside.zone.example', 'TXT', 'CNAME', '--nameserver', f'127.0.0.1:{nsd[1]}']) == 0
    assert m.main(['nothing.zone.example', 'www.zone.example', 'txt', '--json', '-v', '--nameserver', f'127.0.0.1:{nsd[1]}']) == 1
    m.logger.handlers.clear()
    m.logger.setLevel(logging.NOTSET)
    capfd.readouterr()
    with unittest.mock.patch('aiodnsresolver.Resolver') as made:
        made.return_value = (
            unittest.mock.AsyncMock(side_effect=[(IPv4AddressExpiresAt('192.0.2.1', 0),), m.ResolverTimeout('x TXT: why')]),
            None,
        )
        assert m.main(['x', 'A', 'TXT']) == 0
    assert capfd.readouterr() == ('0\tA\tx\t192.0.2.1\n', 'x TXT: why\n')
    with unittest.mock.patch('aiodnsresolver.print_records', side_effect=KeyboardInterrupt):
        assert m.main(['192.0.2.1']) == 130
    with unittest.mock.patch('aiodnsresolver.print_records', side_effect=BrokenPipeError):
        assert m.main(['192.0.2.1']) == 141
    with unittest.mock.patch('aiodnsresolver.Resolver', return_value=(unittest.mock.AsyncMock(side_effect=ZeroDivisionError), None)):
        with pytest.raises(ZeroDivisionError):
            m.main(['www.example.com'])


# --- Types --------------------------------------------------------------------------------------------------------------------------------------

TYPED = """
import asyncio
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from aiodnsresolver import (
    TYPES,
    BytesExpiresAt,
    DoesNotExist,
    GetHost,
    GetNameservers,
    IPv4AddressExpiresAt,
    IPv6AddressExpiresAt,
    Message,
    QuestionRecord,
    Resolve,
    Resolver,
    ResponseCodeError,
    getaddrinfo,
    pack,
    parse,
)


async def get_host(fqdn: bytes, qtype: int) -> ipaddress.IPv4Address | None:
    return None


async def get_nameservers(fqdn: bytes) -> AsyncGenerator[tuple[Any, ...], None]:
    yield 1.0, ('192.0.2.53', 53)


async def iterate_nameservers(fqdn: bytes) -> AsyncIterator[tuple[float, tuple[str, int]]]:
    yield 1.0, ('192.0.2.53', 53)


async def fake(name: str, qtype: object) -> tuple[IPv4AddressExpiresAt, ...]:
    return (IPv4AddressExpiresAt('192.0.2.1', 0),)


hook: GetHost = get_host
sets: GetNameservers = iterate_nameservers
Resolver(get_nameservers=sets)
resolve, clear_cache = Resolver(get_host=hook, get_nameservers=get_nameservers, max_sockets=10)


async def connect(resolve: Resolve, host: str) -> list[tuple[Any, ...]]:
    await resolve(host, TYPES.A)
    return await getaddrinfo(resolve, host, 80)


async def use(either: bool) -> float:
    await connect(resolve, 'www.example.com')
    await connect(fake, 'www.example.com')
    four: tuple[IPv4AddressExpiresAt, ...] = await resolve('www.example.com', TYPES.A)
    six: tuple[IPv6AddressExpiresAt, ...] = await resolve('www.example.com', TYPES.AAAA)
    both: tuple[IPv4AddressExpiresAt | IPv6AddressExpiresAt, ...] = await resolve('www.example.com', (TYPES.A, TYPES.AAAA))
    txt: tuple[BytesExpiresAt, ...] = await resolve('www.example.com', TYPES.TXT)
    plain: tuple[IPv4AddressExpiresAt, ...] = await resolve('www.example.com', 1)
    a, b = await asyncio.gather(resolve('a.example', TYPES.A), resolve('b.example', TYPES.AAAA))
    gathered: tuple[IPv4AddressExpiresAt, IPv6AddressExpiresAt] = a[0], b[0]
    address: ipaddress.IPv4Address = four[0]
    for found in await resolve('www.example.com', TYPES.A if either else TYPES.AAAA):
        print(found.expires_at, found.version)
    clear_cache()
    try:
        parse(pack(Message(1, 0, 0, 0, 0, 1, 0, 0, 0, (QuestionRecord(b'a', TYPES.A, 1),), (), (), ())))
    except ResponseCodeError as error:
        print(error.rcode + 1)
    except DoesNotExist:
        pass
    return six[0].expires_at + txt[0].expires_at + len(plain) + int(address) + both[0].expires_at + gathered[0].expires_at
"""
MISTYPED = """
from aiodnsresolver import TYPES, IPv6AddressExpiresAt, Resolver

resolve, clear_cache = Resolver(max_sockets='many')


async def get_host(fqdn: bytes, qtype: int) -> str:
    return '192.0.2.1'


async def use() -> tuple[IPv6AddressExpiresAt, ...]:
    await clear_cache()
    await resolve('x', 15)
    Resolver(get_host=get_host)
    return await resolve('www.example.com', TYPES.A)
"""


@pytest.mark.slow
@pytest.mark.parametrize('checker', [['mypy', '--strict'], ['pyright', '--pythonpath', sys.executable]])
def test_code_that_uses_what_is_installed_is_checked_for_its_types(checker, tmp_path):
    if not list(pathlib.Path(sysconfig.get_path('purelib')).glob('*aiodnsresolver*')):  # installed, or with -e
        needs_what_is_missing('aiodnsresolver installed, with its stubs')
    for name, code in (('typed', TYPED), ('mistyped', MISTYPED)):
        (tmp_path / f'{name}.py').write_text(code)
    command = [sys.executable, '-m', *checker]
    typed, mistyped = (
        subprocess.run([*command, f'{name}.py'], capture_output=True, text=True, cwd=tmp_path) for name in ('typed', 'mistyped')
    )
    assert typed.returncode == 0, typed.stdout
    assert mistyped.returncode == 1
    assert {int(line) for line in re.findall(r'mistyped.py:(\d+).* error', mistyped.stdout)} == {4, 12, 13, 14, 15}


# --- aiohttp, and the README ------------------------------------------------------------------------------------------------------------------------

README = (HERE / 'README.md').read_text()
PAGES = ['README.md', *sorted(f'docs/{path.name}' for path in (HERE / 'docs').glob('*.md'))]


def blocks_of(page):
    return re.findall(r'^```python\n(.*?)^```', (HERE / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope='session')
def anything(tmp_path_factory):
    """A dnsmasq that knows each name, at 127.0.0.1."""
    directory, port = tmp_path_factory.mktemp('anything'), free_port()
    options = [
        '--no-resolv',
        '--no-hosts',
        f'--port={port}',
        '--user=',
        '--listen-address=127.0.0.1',
        '--bind-interfaces',
        f'--pid-file={directory}/pid',
    ]
    with running(
        [program('dnsmasq'), '-k', '--conf-file=/dev/null', '--address=/#/127.0.0.1', *options], port, 'x.example', directory
    ) as address:
        yield address


@contextlib.contextmanager
def every_nameserver_is(address):
    with files(resolv_conf='nameserver 192.0.2.53'), redirected(lambda *_: address):
        yield


async def start_web(hosts, port=0):
    async def hello(request):
        await asyncio.sleep(float(request.query.get('wait', 0)))
        return aiohttp.web.Response(text=f'hello {request.host} from {request.transport.get_extra_info("sockname")[0]}')

    app = aiohttp.web.Application()
    app.router.add_get('/', hello)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    for host in hosts:
        site = aiohttp.web.TCPSite(runner, host, port)
        await site.start()
        port = port or runner.addresses[0][1]
    return runner, port


def test_the_version_is_one():
    assert f'version = "{m.__version__}"' in (HERE / 'pyproject.toml').read_text()
    assert f'## {m.__version__}\n' in (HERE / 'CHANGELOG.md').read_text()


def test_the_readme_has_the_commands_that_ci_runs():
    assert "python -m pip install '.[test]' && python -m pytest" in README
    assert "python -m pip install '.[test]' && python -m pytest" in (HERE / '.ci' / 'run').read_text()


def web_zone(query):
    name = query.question[0].name.to_text(omit_final_dot=True).lower()
    qtype = int(query.question[0].rdtype)
    known = {
        'both.example': {1: '127.0.0.1', 28: '::1'},
        'four.example': {1: '127.0.0.1'},
        'six.example': {28: '::1'},
        'half.example': {28: '::1'},
    }
    if name == 'half.example' and qtype == 1:
        return servfail(query)
    if name == 'broken.example':
        return servfail(query)
    if name not in known:
        return nxdomain(query)
    return a(known[name][qtype])(query) if qtype in known[name] else nodata(query)


@contextlib.asynccontextmanager
async def web(hosts=('127.0.0.1', '::1')):
    """A web server, and a scripted nameserver that has names for it."""
    server = Scripted('127.0.0.1', [web_zone])
    runner, port = await start_web(hosts)
    try:
        yield server, port
    finally:
        await runner.cleanup()
        server.close()


def block_with(page, text):
    """What the one block of a page that has this text defines; its program is not run."""
    (block,) = [block for block in blocks_of(page) if text in block]
    found = {'__name__': 'block'}
    exec(compile(block, page, 'exec'), found)
    return found


def integration(name):
    return block_with('docs/integrations.md', f'class {name}(')[name]


class TestDocuments:
    @pytest.mark.parametrize('page', PAGES)
    def test_every_python_block_runs(self, anything, capsys, page):
        if page == 'docs/integrations.md':
            return  # its programs are run below, in TestIntegrations
        with every_nameserver_is(anything), contextlib.closing(asyncio.new_event_loop()) as loop:
            shared = {'__name__': 'block'}
            try:
                for block in blocks_of(page):
                    code = compile(block, page, 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                    if 'async def main' in block:
                        exec(code, {'__name__': 'block'})
                    elif code.co_flags & inspect.CO_COROUTINE:
                        loop.run_until_complete(eval(code, shared))
                    else:
                        exec(code, shared)
                loop.run_until_complete(asyncio.sleep(0))
            finally:
                logging.getLogger('aiodnsresolver').setLevel(logging.NOTSET)
        assert capsys.readouterr().err == ''

    @pytest.mark.parametrize('page', PAGES)
    def test_links_between_pages_lead_somewhere(self, page):
        text = (HERE / page).read_text()
        for target in re.findall(r'\]\((?!http)([^)#]+)', text):
            assert ((HERE / page).parent / target).exists(), target

    def test_the_readme_fits_on_a_landing_page(self):
        assert len(README.split()) <= 900

    @pytest.mark.slow
    def test_the_programs_are_checked_for_their_types(self, tmp_path):
        for number, block in enumerate(blocks_of('docs/integrations.md')):
            (tmp_path / f'program{number}.py').write_text(block)
        done = subprocess.run([sys.executable, '-m', 'mypy', '--strict', '.'], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout


async def web_scenario(use):
    async with web() as (server, port):
        resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server))
        resolver = integration('AioHttpResolver')(resolve)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=0)) as session:
            await use(session, port, server)
        await resolver.close()
        await resolver.close()


REACHED = [('both', r'127\.0\.0\.1|::1'), ('four', r'127\.0\.0\.1'), ('six', '::1'), ('half', '::1')]
FAILED = [
    ('nothing.example', socket.EAI_NONAME, 'nothing.example AAAA, A: does not exist: '),
    ('broken.example', socket.EAI_AGAIN, 'broken.example AAAA, A: .* answered SERVFAIL'),
    ('a' * 64 + '.example', socket.EAI_NONAME, '64 octets'),
]


class TestIntegrations:
    """The programs of docs/integrations.md, with real clients and servers."""

    @pytest.mark.parametrize('loop_factory', LOOPS)
    @pytest.mark.parametrize(('name', 'expected'), REACHED)
    def test_aiohttp_gets_whichever_families_exist(self, loop_factory, name, expected):
        async def use(session, port, server):
            async with session.get(f'http://{name}.example:{port}/') as got:
                assert re.fullmatch(f'hello {name}.example:{port} from ({expected})', await got.text())
            assert sum(qtype == 28 for _, qtype, *_ in server.queries) == 1

        run(web_scenario(use), loop_factory)

    @pytest.mark.parametrize('loop_factory', LOOPS)
    @pytest.mark.parametrize(('name', 'code', 'says'), FAILED)
    def test_aiohttp_shows_our_message(self, loop_factory, name, code, says):
        async def use(session, port, _):
            with pytest.raises(aiohttp.ClientConnectorError, match=says) as caught:
                await session.get(f'http://{name}:{port}/')
            assert caught.value.os_error.errno == code

        run(web_scenario(use), loop_factory)

    @pytest.mark.parametrize('loop_factory', LOOPS)
    def test_five_hundred_requests_of_aiohttp_at_once_some_of_them_cancelled(self, loop_factory):
        async def use(session, port, server):
            async def get(wait):
                async with session.get(f'http://both.example:{port}/?wait={wait}') as got:
                    return await got.text()

            tasks = [asyncio.ensure_future(get(0.2)) for _ in range(500)]
            await asyncio.sleep(0.001)
            for task in tasks[::10]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(result, str) for result in results) == 450
            assert len(server.queries) <= 4

        run(web_scenario(use), loop_factory)

    @pytest.mark.parametrize('loop_factory', LOOPS)
    def test_many_sessions_of_aiohttp_share_a_resolver(self, loop_factory):
        async def main():
            async with web() as (server, port):
                resolver = integration('AioHttpResolver')(Resolver(get_host=no_host, get_nameservers=rounds(server))[0])
                for _ in range(3):
                    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)) as session:
                        for _ in range(2):
                            async with session.get(f'http://both.example:{port}/') as got:
                                assert got.status == 200
                assert len(server.queries) == 2  # one a family, though each session that ended closed its connector

        run(main(), loop_factory)

    @pytest.mark.parametrize('loop_factory', LOOPS)
    def test_tornado_gets_whichever_families_exist_and_our_message(self, loop_factory):
        async def main():
            async with web() as (server, port):
                resolve, _ = Resolver(get_host=no_host, get_nameservers=rounds(server))
                resolver = integration('TornadoResolver')(resolve=resolve)
                client = tornado.simple_httpclient.SimpleAsyncHTTPClient(force_instance=True, max_clients=500, resolver=resolver)
                try:
                    for name, expected in REACHED:
                        got = await client.fetch(f'http://{name}.example:{port}/')
                        assert re.fullmatch(f'hello {name}.example:{port} from ({expected})', got.body.decode())
                    asked = len(server.queries)
                    many = await asyncio.gather(*(client.fetch(f'http://both.example:{port}/') for _ in range(500)))
                    assert [got.code for got in many] == [200] * 500
                    assert len(server.queries) == asked
                    for name, code, says in FAILED[:2]:
                        with pytest.raises(socket.gaierror, match=says) as caught:
                            await client.fetch(f'http://{name}:{port}/')
                        assert caught.value.errno == code
                finally:
                    client.close()

        run(main(), loop_factory)

    @pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
    def test_a_loop_that_resolves_serves_httpx_and_streams(self, loop):
        server = None

        async def get_nameservers(_):
            yield 5, server.at

        resolve, _ = Resolver(get_host=no_host, get_nameservers=get_nameservers)

        async def main():
            nonlocal server
            if loop == 'asyncio':
                asyncio.get_running_loop().getaddrinfo = functools.partial(m.getaddrinfo, resolve)
            async with web() as (server, port), httpx.AsyncClient(trust_env=False) as client:
                for host, expected in REACHED:
                    got = await client.get(f'http://{host}.example:{port}/')
                    assert re.fullmatch(f'hello {host}.example:{port} from ({expected})', got.text)
                    _, writer = await asyncio.open_connection(f'{host}.example', port)
                    assert re.fullmatch(expected, writer.get_extra_info('peername')[0])
                    writer.close()
                    await writer.wait_closed()
                with pytest.raises(httpx.ConnectError, match='nothing.example .*: does not exist'):
                    await client.get(f'http://nothing.example:{port}/')
                with pytest.raises(socket.gaierror, match='nothing.example .*: does not exist'):
                    await asyncio.open_connection('nothing.example', port)
                expected = {f'{host}.example' for host in ('both', 'four', 'six', 'half', 'nothing')}
                assert {query[0].lower() for query in server.queries} == expected

        run(main(), asyncio.new_event_loop if loop == 'asyncio' else lambda: integration('ResolvingLoop')(resolve))

    @pytest.mark.parametrize('loop', ['asyncio', 'uvloop'])
    def test_redis_and_postgresql_are_connected_by_name(self, loop, anything, redis_server, postgresql, capsys):
        main = block_with('docs/integrations.md', 'asyncpg')['main']
        url = f'postgresql://postgres@db.example:{postgresql}/postgres'
        with every_nameserver_is(anything):
            resolve, _ = Resolver()
            loop_factory = asyncio.new_event_loop if loop == 'asyncio' else lambda: integration('ResolvingLoop')(resolve)
            run(main('cache.example', redis_server, url), loop_factory)
        assert capsys.readouterr().out == "redis: b'hello'\nPostgreSQL: hello\n"

    def test_fastapi_takes_resolve_by_its_annotation(self, anything):
        found = block_with('docs/integrations.md', 'FastAPI')
        app = found['app']

        async def fake(name, qtype):
            return (IPv4AddressExpiresAt('192.0.2.1', 0),)

        async def scenario():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url='http://test') as client:
                with every_nameserver_is(anything):
                    assert (await client.get('/addresses/www.example.com')).json() == ['127.0.0.1']
                app.dependency_overrides[found['get_resolve']] = lambda: fake
                assert (await client.get('/addresses/www.example.com')).json() == ['192.0.2.1']

        run(scenario())


@pytest.fixture(scope='session')
def redis_server(tmp_path_factory):
    port = free_port()
    command = [
        program('redis-server'),
        '--port',
        str(port),
        '--bind',
        '127.0.0.1',
        '--save',
        '',
        '--dir',
        str(tmp_path_factory.mktemp('redis')),
    ]
    with serving(command, port):
        yield port


@pytest.fixture(scope='session')
def postgresql():
    """A PostgreSQL on a free port; not as root, with which it does not run."""
    binaries = sorted(pathlib.Path('/usr/lib/postgresql').glob('*/bin'))
    initdb = (
        shutil.which('initdb', path=os.pathsep.join(map(str, binaries)))
        or shutil.which('initdb')
        or needs_what_is_missing('the program initdb')
    )
    user = {'user': 'postgres'} if os.getuid() == 0 else {}
    directory, port = pathlib.Path(tempfile.mkdtemp(prefix='aiodnsresolver-')), free_port()
    try:
        if user:
            shutil.chown(directory, 'postgres')
        data = str(directory / 'data')
        call = [initdb, '--pgdata', data, '--username', 'postgres', '--auth', 'trust', '--no-sync']
        subprocess.run(call, check=True, capture_output=True, cwd=directory, **user)
        server = [str(pathlib.Path(initdb).with_name('postgres')), '-D', data, '-p', str(port), '-h', '127.0.0.1', '-k', str(directory)]
        with serving(server, port, cwd=directory, **user):
            yield port
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def serving(command, port, **options):
    """A server in a process of its own, from when it accepts connections."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
                    break
                time.sleep(0.05)
            else:
                pytest.fail(f'{command} does not answer')
            yield
        finally:
            process.terminate()


# --- The fuzzer: python test.py fuzz SECONDS -----------------------------------------------------------------------------------------


def fuzz(seconds):
    """Octets guided by coverage: they parse or are malformed, what was parsed is packed and parsed alike, and as a reply they are read or refused."""
    import atheris

    question = m.Question(b'www.example.com', TYPES.A)
    query = m.make_query(question, bytes)

    def one(data):
        with contextlib.suppress(m.MalformedMessage):
            message = m.parse(data)
            assert m.parse(m.pack(message)) == message
        with contextlib.suppress(m.ResolverError):
            m.read_reply(question, query, query[:2] + b'\x81' + data[:1] + b'\0\1' + data[1:7] + query[12:] + data[7:], 0.0)

    for name, function in vars(m).items():
        if inspect.isfunction(function) and function.__module__ == m.__name__:
            setattr(m, name, atheris.instrument_func(function))
    atheris.Setup([sys.argv[0], f'-max_total_time={seconds}', '-max_len=2000', '-timeout=5'], one)
    atheris.Fuzz()


if __name__ == '__main__':
    if sys.argv[1] == 'calls':
        print_calls()
    else:
        fuzz(int(sys.argv[2]))
