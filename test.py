"""The tests, in the order of the module, a class for each section: `python -m pytest test.py::TestCache`.

What they share stands first: a clock that jumps, a scripted nameserver, fakes of a system that fails, and real servers.
"""

import ast
import asyncio
import collections
import contextlib
import copy
import dataclasses
import decimal
import encodings.idna
import encodings.punycode
import errno
import fcntl
import functools
import gc
import heapq
import inspect
import ipaddress
import itertools
import json
import logging
import math
import multiprocessing
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
import ssl
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import types
import typing
import unittest
import unittest.mock
import weakref

import aiofastforward
import aiohttp
import aiohttp.web
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.rrset
import httpx
import hypothesis
import hypothesis.strategies as st
import pytest
import pytest_asyncio
import tornado.simple_httpclient

import aiodnsresolver as m
from aiodnsresolver import TYPES, Resolver, mix_case, pack, parse

HERE = pathlib.Path(__file__).parent

hypothesis.settings.register_profile('default', deadline=None, max_examples=100)
hypothesis.settings.load_profile('default')


# --- A clock that jumps -----------------------------------------------------------------------------------------------


class Clock:
    """Makes the time of a loop jump to its next timer whenever there is nothing to read: hours pass in milliseconds, sockets are real."""

    def __init__(self, loop):
        self.now = 1000.0
        self.steps = 0  # since time moved
        select = loop._selector.select

        def select_or_jump(timeout=None):
            events = select(0)
            if not events and timeout is None:
                return select(5)  # nothing will happen unless a signal comes: the test hangs, until its timeout
            if not events:
                self.now += max(0, timeout)
            self.steps = self.steps + 1 if events or not timeout else 0
            assert self.steps < 200_000, 'the loop spins: a socket stays readable that is not read, or a timer is due again and again'
            return events

        loop.time = lambda: self.now
        loop._selector.select = select_or_jump


@pytest_asyncio.fixture
async def clock(request):
    return None if request.node.get_closest_marker('real_time') else Clock(asyncio.get_running_loop())


@pytest.fixture
def servers():
    return []


@pytest.fixture(scope='session', autouse=True)
def short_collections():
    """Has the garbage collector leave alone what is there before the first test, which takes most of its time."""
    # The first property makes hypothesis look for what refers to its random generator, which it does not see once that is frozen.
    hypothesis.given(st.none())(lambda _: None)()
    gc.collect()
    gc.freeze()


@pytest_asyncio.fixture(autouse=True)
async def nothing_left(request, clock, servers):
    """Every asynchronous test ends with the same checks: no task, reader, timer or socket is left, and no exception was missed."""
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
            assert (readers_of(loop), timers_of(loop)) == (readers, [])
            assert descriptors_now() <= descriptors  # fewer, where garbage of an earlier test had some
    assert asyncio.all_tasks() - tasks <= {asyncio.current_task()}
    assert not unseen
    assert m.NOTHING == {}


def readers_of(loop):
    return set(loop._selector.get_map()) if hasattr(loop, '_selector') else set()


def timers_of(loop, *callbacks):
    return [handle for handle in loop._scheduled if not handle.cancelled() and handle._callback in (callbacks or [handle._callback])]


@contextlib.contextmanager
def garbage_kept():
    """Turns the garbage collector off, after a collection, and on again."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def no_new_tasks():
    """Fails if a task is created in this loop."""
    loop, created = asyncio.get_running_loop(), []
    loop.set_task_factory(lambda loop, coroutine, **options: created.append(coroutine) or asyncio.Task(coroutine, loop=loop, **options))
    yield
    loop.set_task_factory(None)
    assert created == []


def descriptors_now():
    return len(os.listdir('/proc/self/fd'))


# --- A scripted nameserver, whose wire format is dnspython's ----------------------------------------------------------


# A query as the scripted nameserver had it, and when by the loop's clock.
Received = collections.namedtuple('Received', 'name qtype time wire address')


class Scripted:
    """Answers each query by the next of its replies, the last one again and again. A reply is a function of the query to what is sent:
    octets, a delay in seconds, a function to call with the server, or a sequence of these."""

    def __init__(self, address, replies):
        self.loop = asyncio.get_running_loop()
        self.replies = [*replies]
        self.queries = []
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
        self.queries.append(Received(question.name.to_text(omit_final_dot=True), int(question.rdtype), self.loop.time(), wire, address))
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

    def send_at_once(self, reply):
        """Sends a reply to the first query, in the step of the loop under way."""
        first = self.queries[0]
        self.sock.sendto(reply(dns.message.from_wire(first.wire)), first.address)

    def close(self):
        if self.sock.fileno() >= 0:
            self.loop.remove_reader(self.sock.fileno())
            self.sock.close()

    names = property(lambda self: [query.name.lower() for query in self.queries])
    types = property(lambda self: [query.qtype for query in self.queries])
    times = property(lambda self: [query.time for query in self.queries])


@pytest.fixture
def nameserver(clock, servers):
    """`nameserver(reply, …)` starts a scripted nameserver on loopback. It is closed at once if there is no reply."""

    def start(*replies, address='127.0.0.1'):
        servers.append(Scripted(address, replies))
        if not replies:
            servers[-1].close()
        return servers[-1]

    return start


def asked_types(server):
    return [(query.name.lower(), query.qtype) for query in server.queries]


def name_of(query):
    return query.question[0].name.to_text(omit_final_dot=True).lower()


def response(query, answer=(), authority=(), additional=(), rcode=0, flags=dns.flags.RA):
    message = dns.message.make_response(query)
    message.flags |= flags
    message.set_rcode(rcode)
    for section, lines in ((message.answer, answer), (message.authority, authority), (message.additional, additional)):
        for text in lines:
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


def named(**replies):
    """Gives replies the names that they have as a case of a table."""
    for name, function in replies.items():
        function.__name__ = name
    return replies.values()


nxdomain, nodata, nodata_without_soa = named(
    nxdomain=reply(authority=[SOA], rcode=3), nodata=reply(authority=[SOA]), nodata_without_soa=reply()
)
servfail, refused, formerr, notimp = named(servfail=reply(rcode=2), refused=reply(rcode=5), formerr=reply(rcode=1), notimp=reply(rcode=4))
lame, truncated_and_empty = named(lame=reply(flags=0), truncated_and_empty=reply(flags=dns.flags.RA | dns.flags.TC))


def silence(_):
    return []


def after(delay, then):
    return lambda query: [delay, then(query)]


def dies(_):
    return Scripted.close


def by(**replies):
    """Replies by the name of the record type: `by(A=…, AAAA=…)`."""
    return lambda query: replies[dns.rdatatype.to_text(query.question[0].rdtype)](query)


def zone(known, otherwise=nxdomain):
    """Replies by the name of the question: with a reply, or with an address."""

    def find(query):
        found = known.get(name_of(query), otherwise)
        return (a(found) if isinstance(found, str) else found)(query)

    return find


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
bad_address = edited(lambda data: bytes(data[:-5]) + b'\3' + bytes(data[-3:]))  # of three octets


def first_then(*replies):
    """Several replies to one query."""
    return lambda query: [reply(query) for reply in replies]


def first_of(*replies):
    """The first reply to the first query, and so on."""
    rest = list(replies)
    return lambda query: rest.pop(0)(query)


def short_six(query):
    """An AAAA record of five octets."""
    data = reply('? 20 IN AAAA 2001:db8::1')(query)
    return data[:-18] + b'\0\5' + data[-5:]


def aliases_in_a_loop(query):
    return reply('? 20 IN CNAME b.example.', f'b.example. 20 IN CNAME {name_of(query)}.')(query)


# --- Resolvers of the tests -------------------------------------------------------------------------------------------


BOTH = TYPES.A, TYPES.AAAA
ADDRESS = {TYPES.A: '192.0.2.1', TYPES.AAAA: '2001:db8::1'}
four, six = (a(address, ttl=300) for address in ADDRESS.values())
V4, V6, V4_V6 = ['192.0.2.1'], ['2001:db8::1'], ['192.0.2.1', '2001:db8::1']
IP = ipaddress.ip_address('192.0.2.1')
NO_ROUTE = 'fe80::1%nosuch', 53


class Sets:
    """A get_nameservers. It yields what is given; but a number is slept for, a function is called, an exception is raised.

    By a keyword, what is given for names that begin with this label. `calls` has the names, `called_at` and `closed_at` the times.
    """

    def __init__(self, *given, closing=0, **by_label):
        self.given, self.by_label, self.closing = given, by_label, closing
        self.calls, self.called_at, self.closed_at = [], [], []

    async def __call__(self, fqdn):
        loop = asyncio.get_running_loop()
        self.calls.append(fqdn.decode())
        self.called_at.append(loop.time())
        try:
            for step in self.by_label.get(fqdn.decode().partition('.')[0], self.given):
                if isinstance(step, (float, int)):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                elif not callable(step):
                    yield step
                elif inspect.isawaitable(found := step()):
                    await found
        finally:
            self.closed_at.append(loop.time())  # also if it is collected with its loop
            if self.closing:
                await asyncio.sleep(self.closing)


class Hosts:
    """A get_host. It gives what it is given for a name or a type, or else for any; an exception is raised."""

    def __init__(self, found=None, **by_label):
        self.found, self.by_label, self.asked = found, by_label, []

    async def __call__(self, fqdn, qtype):
        self.asked.append((fqdn, qtype))
        found = self.by_label.get(qtype.name, self.by_label.get(fqdn.decode().partition('.')[0], self.found))
        if isinstance(found, Exception):
            raise found
        return found


async def no_host(fqdn, qtype):
    return None


def rounds(*servers, timeout=0.5, times=5):
    """A get_nameservers that asks the servers one by one."""
    return Sets(*[(timeout, server.at) for server in servers] * times)


def asking(*given, **options):
    """Returns the `resolve` of a resolver that asks these sets; the options are those of Sets and of Resolver."""
    of_resolver = {name: options.pop(name) for name in ('get_host', 'max_sockets', 'transform_fqdn') if name in options}
    return Resolver(**{'get_host': no_host, 'get_nameservers': Sets(*given, **options), **of_resolver})[0]


def loop_resolver(get_nameservers, get_host=no_host, max_sockets=256, max_cache_size=100):
    """The state of a Resolver in this loop, for tests of what its two functions do not show."""
    return m.LoopResolver(asyncio.get_running_loop(), get_host, get_nameservers, mix_case, None, max_sockets, max_cache_size)


async def resolve_by(resolver, name, qtype):
    """What `resolve` does with the state of a Resolver in this loop."""
    found = resolver.recall(name, m.ASKABLE[qtype], now())
    return found if isinstance(found, tuple) else await resolver.resolve(found)


@pytest.fixture(params=['hook', 'file'])
def get_host(request, monkeypatch):
    """No host, by a hook and by a hosts file that is missing: the cache is read in two ways."""
    if request.param == 'hook':
        return no_host
    monkeypatch.setattr(m, 'HOSTS', '/nonexistent/hosts')
    return None


def resolver_for(*servers, times=5, **options):
    return Resolver(**{'get_host': no_host, 'get_nameservers': rounds(*servers, times=times), **options})


@pytest.fixture
def resolving(nameserver):
    """`resolving(reply, …)` starts a scripted nameserver, and returns it with the `resolve` of a resolver that asks it."""

    def start(*replies, **options):
        server = nameserver(*replies)
        return server, resolver_for(server, **options)[0]

    return start


def files(**contents):
    """Makes the module find files of these contents, in place of the system's: `files(hosts='…', resolv_conf='…')`."""

    def fake_open(path, mode):
        assert mode == 'r'
        text = contents.get(pathlib.Path(path).name.replace('.', '_'))
        if text is None:
            raise FileNotFoundError(errno.ENOENT, 'No such file', path)
        return contextlib.nullcontext(text.splitlines(keepends=True))

    return unittest.mock.patch('aiodnsresolver.open', side_effect=fake_open, create=True)


@contextlib.contextmanager
def redirected(redirect):
    """Nameservers are asked at the address and port that `redirect` makes of their own, since a system's are all at port 53."""
    to_nameserver = m.to_nameserver
    with unittest.mock.patch('aiodnsresolver.to_nameserver', lambda ip, port: to_nameserver(*redirect(ip, port))):
        yield


def at_their_ports(*servers):
    """Scripted nameservers are asked at the ports that they have, where a file has their addresses alone."""
    ports = {(server.at[0], 53): server.at for server in servers}
    return redirected(lambda ip, port: ports.get((ip, port), (ip, port)))


@contextlib.contextmanager
def system(*servers, options='', hosts='', search='', **of_resolver):
    """The files of a system whose nameservers are scripted ones, and a `resolve` that reads them: the port alone is not from the file."""
    conf = ''.join(f'nameserver {server.at[0]}\n' for server in servers) + f'search {search}\noptions {options}\n'
    with files(hosts=hosts, resolv_conf=conf), at_their_ports(*servers):
        yield Resolver(**of_resolver)[0]


@contextlib.contextmanager
def every_nameserver_is(address):
    with files(resolv_conf='nameserver 192.0.2.53'), redirected(lambda *_: address):
        yield


def texts(addresses):
    return [str(address) for address in addresses]


def now():
    return asyncio.get_running_loop().time()


def start(*look_ups):
    return [asyncio.ensure_future(look_up) for look_up in look_ups]


async def end(*tasks):
    """Cancels tasks, and waits until they are done."""
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def within(seconds, look_up):
    """What a look-up finds in this time, or None: both asyncio.timeout and ResolverTimeout raise TimeoutError."""
    try:
        async with asyncio.timeout(seconds):
            return texts(await look_up)
    except TimeoutError:
        return None


async def failed_callers(resolve, count, every, patience, name='n{}.example'):
    """Which of so many callers, one every so many seconds, have no answer within the time that each waits."""
    tasks = []
    for i in range(count):
        tasks.append(asyncio.ensure_future(within(patience, resolve(name.format(i), TYPES.A))))
        await asyncio.sleep(every)
    return [i for i, found in enumerate(await asyncio.gather(*tasks)) if not found]


def run(coroutine, loop_factory=asyncio.new_event_loop):
    loop = loop_factory()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


LOOPS = {'asyncio': asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS['uvloop'] = uvloop.new_event_loop
    run(asyncio.sleep(0), uvloop.new_event_loop)  # the first loop opens what uvloop keeps open as long as the process lives


def cases(arguments, table):
    """Parametrizes a test by a table: what a case is called, in words, and its arguments."""
    return pytest.mark.parametrize(arguments, list(table.values()), ids=list(table))


in_each_loop = cases('loop_factory', LOOPS)
by_file_and_hook = cases('resolver', {
    'resolv.conf': system,
    'get_nameservers': lambda server: contextlib.nullcontext(resolver_for(server)[0]),
})  # fmt: skip
in_either_family = cases('found, missing', {'A, not AAAA': BOTH, 'AAAA, not A': BOTH[::-1]})
in_both_orders = cases('types', {'A first': BOTH, 'AAAA first': BOTH[::-1]})


def udp_pair():
    receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    receiver.setblocking(False)
    receiver.bind(('127.0.0.1', 0))
    sender.connect(receiver.getsockname())
    return receiver, sender


async def result_of(look_up):
    """What a look-up gives: the addresses as texts, or the class of the error."""
    try:
        return texts(await look_up)
    except m.ResolverError as error:
        return type(error)


async def results_of(resolve, count, qtype=TYPES.A):
    """What look-ups of n0.example, n1.example and so on give, which begin at once."""
    return await asyncio.gather(*(result_of(resolve(f'n{i}.example', qtype)) for i in range(count)))


async def error_of(look_up):
    with pytest.raises(m.ResolverError) as caught:
        await look_up
    return caught.value


async def ask_in_turn(resolve, count):
    """Looks up so many names, one after another."""
    for i in range(count):
        await resolve(f'n{i}.example', TYPES.A)


async def steps(count):
    """Lets the loop take so many steps, in which no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


async def begun(resolve):
    """A look-up of which the nameserver has the query."""
    (looking,) = start(resolve('www.example.com', TYPES.A))
    await steps(3)
    return looking


def numbered(servers, steps):
    """Steps of Sets, in which nameservers have their numbers among these in place of their addresses."""

    def to_set(timeout, *parts):
        return timeout, *(servers[part].at if isinstance(part, int) else part for part in parts)

    return [to_set(*step) if isinstance(step, tuple) else step for step in steps]


@pytest.fixture
def hosts_file(monkeypatch, tmp_path):
    """A hosts file in place of the system's, not there yet."""
    monkeypatch.setattr(m, 'HOSTS', str(tmp_path / 'hosts'))
    return tmp_path / 'hosts'


@pytest.fixture
def resolv_conf(monkeypatch, tmp_path):
    """A resolv.conf in place of the system's, not there yet."""
    monkeypatch.setattr(m, 'RESOLV_CONF', str(tmp_path / 'resolv.conf'))
    return tmp_path / 'resolv.conf'


@pytest.fixture
def listed(nameserver):
    """`listed(reply, …)` starts a nameserver for each reply, or tuple of replies, from 127.0.0.1 on, of which resolv.conf has a list.

    It returns them and, after them, the `resolve` of a resolver that reads it; the options are those of `system`.
    """
    with contextlib.ExitStack() as stack:

        def start(*given, **options):
            replies = [each if isinstance(each, tuple) else (each,) for each in given]
            servers = [nameserver(*each, address=f'127.0.0.{i}') for i, each in enumerate(replies, 1)]
            return *servers, stack.enter_context(system(*servers, **options))

        yield start


# --- A system that fails -------------------------------------------------------------------------------------------------


def ignore(*_):
    pass


class FakeSockets:
    """Sockets of the module on a system that is short of something, or fails.

    limit: how many may be open at once; one more is an OSError of `code`.
    room: how many of these may have sent something; one more is ENOBUFS.
    opening, sending, receiving, closing: called with the family, with the socket, with what was received, with the socket.
    """

    def __init__(
        self, patch, limit=math.inf, code=errno.EMFILE, room=math.inf, opening=ignore, sending=ignore, receiving=ignore, closing=ignore
    ):
        self.limit, self.room = limit, room
        self.open, self.sent = set(), set()  # file descriptors
        self.counts, self.refused = [], 0  # how many were open at each opening; how often something was short
        fake = self

        class FakeSocket(m.Socket):
            def __init__(self, family, kind):
                opening(family)
                fake.check(fake.open, fake.limit, code)
                super().__init__(family, kind)
                fake.open.add(self.fileno())
                fake.counts.append(len(fake.open))

            def send(self, data):
                sending(self)
                fake.check(fake.sent, fake.room, errno.ENOBUFS)
                fake.sent.add(self.fileno())
                return super().send(data)

            def recv(self, size):
                data = super().recv(size)
                receiving(data)
                return data

            def close(self):
                closing(self)
                fake.open.discard(self.fileno())
                fake.sent.discard(self.fileno())
                super().close()

        patch.setattr(m, 'Socket', FakeSocket)

    def check(self, used, limit, code):
        if len(used) >= limit:
            self.refused += 1
            raise OSError(code, os.strerror(code))


@pytest.fixture
def fake_sockets(monkeypatch):
    """`fake_sockets(limit=3)` gives the module these sockets."""
    return functools.partial(FakeSockets, monkeypatch)


def raises(code, if_=lambda _: True):
    """Returns what raises an OSError, if its argument is so."""

    def raise_(argument):
        if if_(argument):
            raise OSError(code, os.strerror(code))

    return raise_


class FakeEpoll:
    """An epoll object that remembers the timeouts of its polls, and whose `register` can fail."""

    def __init__(self, registering=ignore):
        epoll = select.epoll()
        self.fileno, self.close, self.modify = epoll.fileno, epoll.close, epoll.modify
        self.register = lambda fd, events: (registering(fd), epoll.register(fd, events))
        self.polls = []
        self.poll = lambda timeout: (self.polls.append(timeout), epoll.poll(timeout))[1]


@contextlib.contextmanager
def handler_that_raises(text='', times=math.inf, error=ZeroDivisionError):
    """Logs at DEBUG to a handler that raises an error for messages with a text, so many times."""
    handler, count = logging.Handler(), itertools.count()

    def handle(record):
        if text in record.getMessage() and next(count) < times:
            raise error

    handler.handle = handle
    m.logger.addHandler(handler)
    m.logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        m.logger.setLevel(logging.NOTSET)
        m.logger.removeHandler(handler)


# --- Real servers -----------------------------------------------------------------------------------------------------


def needs_what_is_missing(what):
    """With CI=true nothing may be missing; elsewhere the test says why it is skipped."""
    (pytest.fail if os.environ.get('CI') == 'true' else pytest.skip)(f'this test needs {what}')


def program(name):
    postgresql = sorted(map(str, pathlib.Path('/usr/lib/postgresql').glob('*/bin')))
    places = [os.environ.get('PATH', ''), '/usr/sbin', '/usr/local/sbin', *postgresql]
    return shutil.which(name, path=':'.join(places)) or needs_what_is_missing(f'the program {name}')


def free_port():
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp, contextlib.suppress(OSError):
            udp.bind(('127.0.0.1', 0))
            tcp.bind(udp.getsockname())
            return udp.getsockname()[1]


@contextlib.contextmanager
def serving(command, port, name=None, **options):
    """A server in a process of its own, from when it accepts connections, or as a nameserver knows the name."""
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log, **options) as process:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError, dns.exception.Timeout):
                    if not name:
                        socket.create_connection(('127.0.0.1', port), 1).close()
                        break
                    if dns.query.udp(dns.message.make_query(name, 'A'), '127.0.0.1', 0.05, port).rcode() == 0:
                        break
                time.sleep(0.05)
            else:
                log.seek(0)
                pytest.fail(f'{command} does not answer: {log.read()}')
            yield '127.0.0.1', port
        finally:
            process.terminate()


FAR = 'a' * 45
ZONE = '\n'.join([
    r"""$ORIGIN zone.example.
$TTL 300
@ SOA ns.zone.example. admin.zone.example. 1 3600 600 86400 30
@ NS ns
ns A 127.0.0.1
text TXT "some thing\009with \"quotes\" and \\ in it"
www 60 A 192.0.2.1
www 60 AAAA 2001:db8::1
four CNAME three
three 20 CNAME two
two CNAME one
one CNAME www
dangling CNAME nothing
outside CNAME www.elsewhere.example.
space CNAME a\032b
only4 A 192.0.2.4
txt TXT "some" " text"
xn--bcher-kva A 192.0.2.5
*.wild A 192.0.2.6
*.wild AAAA 2001:db8::6
toforty CNAME forty""",
    *[f'forty A 198.51.100.{i}' for i in range(40)],
    *[f'twenty AAAA 2001:db8::{i:x}' for i in range(20)],
    *[f'link{i}.{FAR}{i} CNAME link{i + 1}.{FAR}{i + 1}' for i in range(9)],
    f'link9.{FAR}9 A 192.0.2.9',
    f'longtext TXT {" ".join(letter * 200 for letter in "abcd")}\n',
])  # fmt: skip


def nameserver_of(command, conf, home=None):
    """A fixture that gives the address of a nameserver with the zone, or of one that asks NSD for it, which is the authority.

    In command and configuration, the directory, the port, and the authority's port stand in braces. Debian's AppArmor profiles let some
    nameservers use what is below their home alone.
    """

    @pytest.fixture(scope='session')
    def give_address(request):
        name, *options = command.split()
        is_usable = home is not None and os.access(home, os.W_OK)
        profile, apparmor = pathlib.Path(f'/etc/apparmor.d/usr.sbin.{name}'), pathlib.Path('/sys/kernel/security/apparmor')
        if home is not None and not is_usable and profile.exists() and apparmor.exists():
            needs_what_is_missing(f'root: AppArmor confines {name} to {home}')
        with tempfile.TemporaryDirectory(prefix='aiodnsresolver-', dir=home if is_usable else None) as directory:
            port = free_port()
            values = {'directory': directory, 'port': port}
            if '{authority}' in str(conf):
                values['authority'] = request.getfixturevalue('nsd')[1]

            def filled(text):
                for name, value in values.items():
                    text = text.replace(f'{{{name}}}', str(value))
                return text

            for file, text in {'zone': ZONE, **(conf if isinstance(conf, dict) else {'conf': conf})}.items():
                (pathlib.Path(directory) / file).write_text(filled(text))
            with serving([program(name), *map(filled, options)], port, 'www.zone.example', cwd=directory) as address:
                yield address

    return give_address


unbound = nameserver_of('unbound -d -c {directory}/conf', """
server: interface: 127.0.0.1@{port} username: "" chroot: "" directory: "{directory}" pidfile: "{directory}/pid" use-syslog: no
    do-not-query-localhost: no module-config: iterator
stub-zone: name: zone.example stub-addr: 127.0.0.1@{authority}
""", '/var/lib/unbound')  # fmt: skip
nsd = nameserver_of('nsd -d -c {directory}/conf', """
server: ip-address: 127.0.0.1@{port} username: "" database: "" zonesdir: "{directory}" rrl-ratelimit: 0
    pidfile: "{directory}/pid" xfrdfile: "{directory}/xfrd" zonelistfile: "{directory}/list"
remote-control: control-enable: no
zone: name: zone.example zonefile: zone
""")  # fmt: skip
bind = nameserver_of('named -g -c {directory}/conf', """
options {
    directory "{directory}"; pid-file "{directory}/pid"; session-keyfile "{directory}/key"; listen-on port {port} { 127.0.0.1; };
    listen-on-v6 { none; }; recursion no; dnssec-validation no;
};
controls { };
zone "zone.example" { type primary; file "zone"; };
""", '/var/cache/bind')  # fmt: skip
recursor = nameserver_of('pdns_recursor --config-dir={directory}', {  # a PowerDNS Recursor: version 5 reads the first, version 4 the second
    'recursor.yml': """
incoming: {listen: ['127.0.0.1:{port}']}
recursor: {socket_dir: '{directory}', forward_zones: [{zone: zone.example, forwarders: ['127.0.0.1:{authority}']}]}
outgoing: {dont_query: []}
dnssec: {validation: 'off'}
""",
    'recursor.conf': """
local-address=127.0.0.1
local-port={port}
socket-dir={directory}
forward-zones=zone.example=127.0.0.1:{authority}
dont-query=
dnssec=off
""",
})  # fmt: skip
knot = nameserver_of('kresd --noninteractive --quiet --config {directory}/conf {directory}', """
net.listen('127.0.0.1', {port})
modules.unload('ta_signal_query')
trust_anchors.remove('.')
policy.add(policy.suffix(policy.STUB('127.0.0.1@{authority}'), policy.todnames({'zone.example.'})))
cache.size = 10*MB
""")  # fmt: skip
DNSMASQ = 'dnsmasq -k --no-resolv --no-hosts --user= --bind-interfaces'
DNSMASQ += ' --listen-address=127.0.0.1 --port={port} --pid-file={directory}/pid --conf-file={directory}/conf'
dnsmasq = nameserver_of(DNSMASQ, """
server=/zone.example/127.0.0.1#{authority}
local=/www.zone.example/only4.zone.example/nothing.zone.example/four.zone.example/txt.zone.example/
host-record=www.zone.example,192.0.2.1,2001:db8::1
host-record=only4.zone.example,192.0.2.4
cname=four.zone.example,www.zone.example
txt-record=txt.zone.example,some, text
local-ttl=20
""")  # fmt: skip
anything = nameserver_of(DNSMASQ, 'address=/#/127.0.0.1')  # it knows each name


def resolver_at(address):
    return asking((5, address), (5, address))


@pytest.fixture(scope='session')
def redis_server(tmp_path_factory):
    port = free_port()
    command = [program('redis-server'), '--port', str(port), '--bind', '127.0.0.1', '--save', '']
    with serving(command, port, cwd=tmp_path_factory.mktemp('redis')):
        yield port


@pytest.fixture(scope='session')
def postgresql():
    """A PostgreSQL on a free port; not as root, with which it does not run."""
    initdb, port = program('initdb'), free_port()
    user = {'user': 'postgres'} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix='aiodnsresolver-') as directory:
        if user:
            shutil.chown(directory, 'postgres')
        call = f'{initdb} --pgdata data --username postgres --auth trust --no-sync'
        subprocess.run(call.split(), check=True, capture_output=True, cwd=directory, **user)
        server = f'{pathlib.Path(initdb).parent}/postgres -D data -p {port} -h 127.0.0.1 -k {directory}'
        with serving(server.split(), port, cwd=directory, **user):
            yield port


def output_of(address, code):
    """What a Python process of its own prints, in whose code `get_nameservers` is of this address, and on its standard error."""
    before = f"""
import asyncio, gc, logging, os, resource, sys
sys.path.insert(0, {str(HERE)!r})
from aiodnsresolver import TYPES, Resolver
logging.getLogger('asyncio').setLevel('ERROR')  # in debug mode it warns of each slow step
async def get_nameservers(_):
    for _ in range(5):
        yield 5, {address!r}
"""
    done = subprocess.run([sys.executable, '-c', before + code], capture_output=True, text=True, timeout=600)
    return done.stdout, done.stderr


class TestVocabulary:
    """The record types and the bits of a header."""

    def test_types_are_usable_as_ints(self):
        assert {qtype.name: int(qtype) for qtype in TYPES} == {'A': 1, 'CNAME': 5, 'TXT': 16, 'AAAA': 28}
        assert (m.QUESTION, m.RESPONSE, TYPES.A + 1, {1: 'one'}[TYPES.A]) == (0, 1, 2, 'one')


class TestErrors:
    """The tree of errors, as code catches it."""

    @cases('error, bases', {
        'InvalidName': (m.InvalidName, (m.ResolverError, ValueError)),
        'DoesNotExist': (m.DoesNotExist, (m.ResolverError,)),
        'NameDoesNotExist': (m.NameDoesNotExist, (m.DoesNotExist,)),
        'NoRecords': (m.NoRecords, (m.DoesNotExist,)),
        'TemporaryResolverError': (m.TemporaryResolverError, (m.ResolverError,)),
        'ResolverTimeout': (m.ResolverTimeout, (m.TemporaryResolverError, asyncio.TimeoutError)),
        'NameserverRefused': (m.NameserverRefused, (m.TemporaryResolverError, ConnectionRefusedError)),
        'NameserverUnreachable': (m.NameserverUnreachable, (m.TemporaryResolverError, OSError)),
        'ResponseCodeError': (m.ResponseCodeError, (m.TemporaryResolverError,)),
        'AnswerTooLong': (m.AnswerTooLong, (m.ResolverError,)),
        'BadAddress': (m.BadAddress, (m.ResolverError, ipaddress.AddressValueError)),
        'AliasChainTooLong': (m.AliasChainTooLong, (m.ResolverError,)),
        'MalformedMessage': (m.MalformedMessage, (m.ResolverError, ValueError)),
        'PointerLoop': (m.PointerLoop, (m.MalformedMessage,)),
    })  # fmt: skip
    def test_error_has_its_bases_and_survives_pickle(self, error, bases):
        assert all(issubclass(error, base) for base in bases)
        assert not issubclass(error, m.TemporaryResolverError) or not issubclass(error, m.DoesNotExist)
        again = pickle.loads(pickle.dumps(error('some text')))
        assert (type(again), str(again)) == (error, 'some text')


class TestValues:
    """Addresses and bytes with `expires_at`."""

    @cases('plain, value', {
        'IPv4': (ipaddress.IPv4Address('192.0.2.1'), m.IPv4AddressExpiresAt('192.0.2.1', 12.5)),
        'IPv6': (ipaddress.IPv6Address('2001:db8::1'), m.IPv6AddressExpiresAt('2001:db8::1', 12.5)),
        'IPv6 with a scope id': (ipaddress.IPv6Address('fe80::1%lo'), m.IPv6AddressExpiresAt('fe80::1%lo', 12.5)),
    })  # fmt: skip
    def test_address_with_expiry_is_otherwise_like_any_other(self, plain, value):
        assert isinstance(value, type(plain))
        assert (value, str(value), f'{value:#x}', hash(value)) == (plain, str(plain), f'{plain:#x}', hash(plain))
        assert repr(value) == f"IPv{plain.version}AddressExpiresAt('{plain}', expires_at=12.5)"
        assert sorted([value + 1, value]) == [plain, value + 1]
        assert (value + 1, value - 1, (value + 1).expires_at, (value - 1).expires_at) == (plain + 1, plain - 1, 12.5, 12.5)
        for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert (type(again), again, again.expires_at) == (type(value), plain, 12.5)

    def test_bytes_with_expiry_are_otherwise_like_any_other(self):
        value = m.BytesExpiresAt(b'some', 12.5)
        assert (value, hash(value), value + b'thing', sorted([value, b'a'])) == (b'some', hash(b'some'), b'something', [b'a', b'some'])
        for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert (type(again), again, again.expires_at) == (m.BytesExpiresAt, b'some', 12.5)


L63 = 'a' * 63
LONGEST = '.'.join([L63, L63, L63, 'b' * 61])  # 253 octets, RFC 1035 §2.3.4
LONG = f'{L63}.{L63}.{L63}.aaa'
LABEL, LAST_LABEL = b'\x3f' + b'a' * 63, b'\x3d' + b'b' * 61  # of it, on the wire
IDEOGRAPHS = ''.join(map(chr, range(0x4E00, 0x4E00 + 5000)))
HEADER = b'\1\2\0\0'  # ID, and flags


def asked_by_getaddrinfo(name):
    async def resolve(name, qtype):
        return (m.IPv4AddressExpiresAt('192.0.2.1', 0),)

    return run(m.getaddrinfo(resolve, name, 80))


class TestNames:
    """Names as text, in queries and in wire format (RFC 1035 §3.1)."""

    @cases('name, fqdn', {
        'plain': ('www.example.com', b'www.example.com'),
        'capitals': ('WWW.Example.COM', b'www.example.com'),
        'final dot': ('www.example.com.', b'www.example.com'),
        'underscore and hyphen': ('_dmarc.a-b.example', b'_dmarc.a-b.example'),
        'asterisk': ('*.example', b'*.example'),
        'umlaut': ('bücher.example', b'xn--bcher-kva.example'),  # RFC 3490 §4
        'umlaut in capitals': ('BÜCHER.example.', b'xn--bcher-kva.example'),
        'umlaut and ideographic dot': ('bücher。example', b'xn--bcher-kva.example'),  # RFC 3490 §3.1
        'ideographic dots': ('www。example。com。', b'www.example.com'),
        'encoded already': ('xn--bcher-kva.example', b'xn--bcher-kva.example'),
        'longest label': (f'{L63}.example', f'{L63}.example'.encode()),
        'longest name': (LONGEST, LONGEST.encode()),
        'longest name and final dot': (LONGEST + '.', LONGEST.encode()),
    })  # fmt: skip
    def test_name_is_written_as_in_queries(self, name, fqdn):
        assert m.to_fqdn(name) == fqdn

    @cases('name, says', {
        'empty': ('', 'the name is empty'),
        'a dot': ('.', 'empty label'),
        'dot at the start': ('.example', 'empty label'),
        'two dots within': ('www..example', 'empty label'),
        'two dots at the end': ('example..', 'empty label'),
        'long label': ('a' * 64 + '.example', '64 octets'),
        'long label after another': ('www.' + 'a' * 64, '64 octets'),
        'long label beyond ASCII': ('ü' * 64 + '.example', 'cannot be written in ASCII: it is too long'),
        'label that is long when encoded': ('ü' * 63 + '.example', 'cannot be written in ASCII'),
        'very long label': ('ü' * 300 + '.example', 'cannot be written in ASCII'),
        'five thousand ideographs': (IDEOGRAPHS, 'it has 5000 characters'),  # for which the codec takes seconds
        'long name': (LONGEST + 'b', '254 octets, and 253 is the most'),
        'long name and final dot': (LONGEST + 'b.', '254 octets, and 253 is the most'),
        'space': ('www example.com', 'a space'),
        'newline': ('www.example\n', 'a space'),
        'NUL': ('www.\0.example', 'a space'),
        'DEL': ('www.\x7f.example', 'a space'),
        'space beside an umlaut': ('ü ü.example', 'a space'),
        'one character for two, the second a dot': ('a\u2488b.example', 'a space'),
        'soft hyphen': ('\u00ad.example', 'cannot be written in ASCII'),
        'surrogate': ('\ud800.example', 'cannot be written in ASCII'),
        'both directions of writing': ('\u0627a.example', 'cannot be written in ASCII'),
    })  # fmt: skip
    async def test_impossible_name_is_refused_and_nothing_is_sent(self, resolving, name, says):
        server, resolve = resolving(four)
        error = await error_of(resolve(name, TYPES.A))
        assert (type(error), says in str(error), isinstance(error, UnicodeError)) == (m.InvalidName, True, False)
        assert (isinstance(error.__cause__, UnicodeError), server.queries) == ('ASCII' in says, [])

    @cases('name, write', {
        'URL': ('http://web/', 'web'),
        'URL with all its parts': ('http://me@www.example.com:80/a:b', 'www.example.com'),
        'name and port': ('example.com:80', 'example.com'),
        'address and port': ('[::1]:80', '::1'),
        'URL of an address': ('http://[2001:db8::1]:80/', '2001:db8::1'),
        'URL without a host': ('http:///', 'the host'),
    })  # fmt: skip
    def test_more_than_a_name_is_refused_with_what_to_write(self, name, write):
        with pytest.raises(m.InvalidName, match=re.escape(f'{name!r} is not a valid name: it is more than a name: write {write}') + '$'):
            m.candidates(name, (), 1)

    @hypothesis.given(st.sampled_from([m.to_fqdn, asked_by_getaddrinfo]), st.text(min_size=1, max_size=20), st.integers(1, 1_000_000))
    @hypothesis.example(m.to_fqdn, IDEOGRAPHS[:500], 500)
    @hypothesis.example(asked_by_getaddrinfo, '1' + IDEOGRAPHS[:500], 501)
    def test_work_on_a_name_is_bounded_whatever_it_is(self, use, text, size):
        """In letters that are encoded, squared where the time of the codec is quadratic in them."""
        steps = []

        def counted(target, function, cost):
            return unittest.mock.patch(target, lambda given, *args: steps.append(cost(given)) or function(given, *args))

        with (
            counted('encodings.idna.nameprep', encodings.idna.nameprep, len),
            counted('encodings.punycode.punycode_encode', encodings.punycode.punycode_encode, lambda given: len(given) ** 2),
            counted('socket.getaddrinfo', socket.getaddrinfo, lambda given: len(given or '') ** 2),
            contextlib.suppress(m.InvalidName, socket.gaierror),
        ):
            use((text * (size // len(text) + 1))[:size])
        assert sum(steps) < 2 * 510 + 9 * 64**2 + 255**2

    def test_odd_octets_are_shown_as_in_zone_files(self):
        assert m.name_to_text(b'\xffa.example') == r'\255a.example'

    @cases('name, search, ndots, expected', {
        'no search list': ('db', '', 1, 'db'),
        'no dot': ('db', 'a.example b.example', 1, 'db.a.example db.b.example db'),
        'a dot': ('db.c', 'a.example b.example', 1, 'db.c db.c.a.example db.c.b.example'),
        'fewer dots than ndots': ('db.c', 'a.example', 2, 'db.c.a.example db.c'),
        'ndots of none': ('db', 'a.example', 0, 'db db.a.example'),
        'final dot': ('db.', 'a.example', 1, 'db'),
        'final ideographic dot': ('db。', 'a.example', 1, 'db'),
        'localhost': ('localhost', 'a.example', 1, 'localhost'),
        'under localhost': ('x.localhost', 'a.example', 5, 'x.localhost'),
        'under onion': ('x.onion', 'a.example', 5, 'x.onion'),
        'under invalid': ('x.invalid', 'a.example', 5, 'x.invalid'),
        'under local': ('x.local', 'a.example', 1, 'x.local x.local.a.example'),
        'digits': ('1.2.3', 'a.example', 2, '1.2.3 1.2.3.a.example'),
        'one candidate too long': (LONG, f'{"b" * 56} {"b" * 57} {"b" * 58}', 0, f'{LONG} {LONG}.{"b" * 56} {LONG}.{"b" * 57}'),
    })  # fmt: skip
    def test_candidates_of_a_search_list_come_in_order(self, name, search, ndots, expected):  # resolv.conf(5)
        as_given, found, _ = m.candidates(name, tuple(search.encode().split()), ndots)
        assert as_given == m.to_fqdn(name)
        assert b' '.join(found).decode() == expected

    @cases('data, start, expected', {
        'root': (b'\0', 0, (b'', 1)),
        'two labels': (b'\1a\2bc\0x', 0, (b'a.bc', 6)),
        'pointer': (b'\3com\0\1a\xc0\0x', 5, (b'a.com', 9)),
        'pointer to a pointer': (b'\3com\0\xc0\0\xc0\5', 7, (b'com', 9)),
        'capital': (b'\1A\0', 0, (b'A', 3)),
        'space and other octets': (b'\3a b\1\xff\0', 0, (b'a b.\xff', 7)),
        'pointer to the root': (b'\0\xc0\0', 1, (b'', 3)),
        'label and a pointer to the root': (b'\0\1a\xc0\0', 1, (b'a', 5)),
        'longest label': (LABEL + b'\0', 0, (b'a' * 63, 65)),
        'longest name': (LABEL * 3 + LAST_LABEL + b'\0', 0, (LONGEST.encode(), 255)),
        'longest name, with a pointer': (LABEL + LAST_LABEL + b'\0' + LABEL * 2 + b'\xc0\0', 127, (LONGEST.encode(), 257)),
    })  # fmt: skip
    def test_name_is_unpacked(self, data, start, expected):  # RFC 1035 §4.1.4
        assert m.unpack_name(data, start, {}) == expected

    def test_names_that_pointers_led_to_are_known_by_their_offset(self):
        data, known = b'\1a\0\1b\xc0\0\1c\xc0\3\xc0\3', {}
        assert m.unpack_name(data, 7, known) == (b'c.b.a', 11)
        assert known == {3: b'b.a', 0: b'a'}
        assert m.unpack_name(data, 11, known) == (b'b.a', 13)

    @cases('pointers, is_read', {'as many as labels': (127, True), 'one more': (128, False), 'more than the stack holds': (8000, False)})
    def test_pointers_in_a_row_are_followed(self, pointers, is_read):
        targets = [0, *range(3, 1 + 2 * pointers, 2)]  # each the pointer before it
        data = b'\1a\0' + b''.join((0xC000 | target).to_bytes(2, 'big') for target in targets)
        with contextlib.nullcontext() if is_read else pytest.raises(m.MalformedMessage, match='a pointer too many'):
            assert m.unpack_name(data, len(data) - 2, {}) == (b'a', len(data))

    def test_name_too_long_by_its_pointer_is_malformed(self):
        data, known = LABEL * 2 + b'\0' + LABEL * 2 + b'\xc0\0', {}
        for _ in range(2):  # also when the pointer is known
            with pytest.raises(m.MalformedMessage, match='longer than 255'):
                m.unpack_name(data, 129, known)
            assert m.unpack_name(data, 129 + 64, known)[0] == b'.'.join([b'a' * 63] * 3)

    @cases('data, start, error, says', {
        'dot in a label': (b'\3a.b\0', 0, m.MalformedMessage, 'holds a dot'),
        'label of type 01': (b'\x40a\0', 0, m.MalformedMessage, 'reserved type'),
        'label of type 10': (b'\x80a\0', 0, m.MalformedMessage, 'reserved type'),
        'pointer to itself': (b'\xc0\0', 0, m.PointerLoop, 'to octet 0'),
        'pointer to its label': (b'\1a\xc0\0', 0, m.PointerLoop, 'to octet 0'),
        'pointer forward': (b'\xc0\2\1a\0', 0, m.PointerLoop, 'to octet 2'),
        'name of 257 octets': (LABEL * 4 + b'\0', 0, m.MalformedMessage, 'longer than 255'),
        'name of 256 octets': (LABEL * 3 + b'\x3e' + b'a' * 62 + b'\0', 0, m.MalformedMessage, 'longer than 255'),
    })  # fmt: skip
    def test_malformed_name_is_refused_with_the_place(self, data, start, error, says):
        with pytest.raises(error, match=says):
            m.unpack_name(data, start, {})

    def test_work_is_linear_wherever_pointers_lead(self):
        """In octets and labels that are looked at: of a name of 126 labels, and of records named by pointers into it."""
        steps = itertools.count()

        class Counted(bytes):
            def __getitem__(self, at):
                next(steps)
                return super().__getitem__(at)

        records_ = [(0xC000 | 12 + 2 * (i % 126)).to_bytes(2) + b'\0\1\0\1' + bytes(6) for i in range(5000)]
        data = HEADER + b'\0\1' + len(records_).to_bytes(2) + bytes(4) + b'\1a' * 126 + b'\0' + b'\0\1\0\1' + b''.join(records_)
        assert len(parse(Counted(data)).an) == 5000
        assert next(steps) < 40_000  # of each record, two octets of its name, and its data; of 126 names, all labels, once


labels = st.binary(min_size=1, max_size=63).map(lambda label: label.replace(b'.', b'-'))
names = st.lists(labels, max_size=5).map(b'.'.join).filter(lambda name: len(name) <= 253)
u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1)
questions = st.builds(m.QuestionRecord, names, u16, u16)
records = st.one_of(
    st.builds(m.ResourceRecord, names, u16.filter(lambda qtype: qtype != TYPES.CNAME), u16, u32, st.binary(max_size=40)),
    st.builds(m.ResourceRecord, names, st.just(5), u16, u32, names),
)
bit = st.integers(0, 1)
sections = [st.lists(of, max_size=3).map(tuple) for of in (questions, records, records, records)]
messages = st.builds(m.Message, u16, bit, st.integers(0, 15), bit, bit, bit, bit, st.integers(0, 7), st.integers(0, 15), *sections)
EXAMPLE, COUNT_1 = b'\7example\3com\0', HEADER + b'\0\0\0\1\0\0\0\0'  # a name, and a header with one answer
MESSAGE = m.Message(1, m.QUESTION, 0, 0, 0, 1, 0, 0, 0, (m.QuestionRecord(b'example.com', TYPES.A, 1),), (), (), ())


class TestMessages:
    """Messages in wire format (RFC 1035 §4.1)."""

    @hypothesis.given(messages)
    def test_packed_message_is_parsed_as_it_was(self, message):
        assert parse(pack(message)) == message
        assert parse(pack(message) + b'and more') == message

    @hypothesis.given(messages)
    def test_packed_message_is_read_by_dnspython(self, message):
        wire = pack(message._replace(opcode=0, an=(), ns=(), ar=(), qd=message.qd[:1], rcode=message.rcode % 6))
        theirs = dns.message.from_wire(wire)
        assert theirs.id == message.qid
        assert bool(theirs.flags & dns.flags.TC) == bool(message.tc)
        assert [b'.'.join(rrset.name.labels[:-1]) for rrset in theirs.question] == [question.name for question in message.qd[:1]]

    def test_message_of_dnspython_is_parsed_with_compression(self):
        query = dns.message.make_query('www.example.com', 'A', id=77)
        answer = ['? 20 IN CNAME b.example.com.', 'b.example.com. 30 IN A 192.0.2.1', 'b.example.com. 30 IN TXT "x"']
        parsed = parse(reply(*answer, authority=[SOA])(query))
        assert (parsed.qid, parsed.qr, parsed.rd, parsed.ra) == (77, m.RESPONSE, 1, 1)
        assert parsed.qd == (m.QuestionRecord(b'www.example.com', 1, 1),)
        assert parsed.an == (
            m.ResourceRecord(b'www.example.com', 5, 1, 20, b'b.example.com'),
            m.ResourceRecord(b'b.example.com', 1, 1, 30, bytes([192, 0, 2, 1])),
            m.ResourceRecord(b'b.example.com', 16, 1, 30, b'\1x'),
        )
        assert parsed.ns[0][:4] == (b'example.com', 6, 1, 30)

    @hypothesis.given(st.binary(max_size=600))
    @hypothesis.example(b'')
    @hypothesis.example(b'\0' * 12)
    def test_any_octets_parse_or_are_malformed(self, data):
        with contextlib.suppress(m.MalformedMessage):
            parse(data)

    @hypothesis.given(messages.map(pack), st.data())
    def test_damaged_message_parses_or_is_malformed(self, data, draw):
        for _ in range(draw.draw(st.integers(1, 5))):
            at = draw.draw(st.integers(0, len(data) - 1))
            octets = draw.draw(st.binary(min_size=1, max_size=2))
            data = draw.draw(st.sampled_from([data[:at], data[:at] + octets + data[at + 1 :]])) or b'\0'
        with contextlib.suppress(m.MalformedMessage):
            assert parse(pack(parse(data))) == parse(data)

    @cases('data, says', {
        'nothing': (b'', '0 octets'),
        'header cut off': (HEADER + b'\0' * 7, '11 octets'),
        'question missing': (HEADER + b'\0\1\0\0\0\0\0\0', 'of 12 octets is cut off'),
        'questions missing': (HEADER + b'\xff\xff\0\0\0\0\0\0' + EXAMPLE + b'\0\1\0\1', 'of 29 octets is cut off'),
        'question cut off': (HEADER + b'\0\1\0\0\0\0\0\0' + EXAMPLE + b'\0\1\0', 'of 28 octets is cut off'),
        'label cut off': (HEADER + b'\0\1\0\0\0\0\0\0\3ab', 'of 15 octets is cut off'),
        'name without an end': (HEADER + b'\0\1\0\0\0\0\0\0\2ab', 'of 15 octets is cut off'),
        'pointer cut off': (HEADER + b'\0\1\0\0\0\0\0\0\xc0', 'of 13 octets is cut off'),
        'record cut off': (COUNT_1 + EXAMPLE + b'\0\1\0\1\0\0\0\0\0', 'of 34 octets is cut off'),
        'data cut off': (COUNT_1 + EXAMPLE + b'\0\1\0\1\0\0\0\0\0\5abcd', 'end at octet 40 is cut off'),
        'alias shorter than its data': (COUNT_1 + EXAMPLE + b'\0\5\0\1\0\0\0\0\0\4\1a\0b', 'ends at 38, not at 39'),
        'alias longer than its data': (COUNT_1 + EXAMPLE + b'\0\5\0\1\0\0\0\0\0\2\1a\0', 'ends at 38, not at 37'),
        'reserved label': (HEADER + b'\0\0\0\0\0\0\0\1' + b'\x40a', 'reserved'),
    })  # fmt: skip
    def test_malformed_message_is_refused_with_the_reason(self, data, says):
        with pytest.raises(m.MalformedMessage, match=says):
            parse(data)

    @cases('changed, error, says', {
        'ID': ({'qid': 65536}, ValueError, 'does not fit in its field'),
        'QR': ({'qr': 2}, ValueError, 'does not fit in 1 bits of the header'),
        'rcode': ({'rcode': 16}, ValueError, 'does not fit in 4 bits of the header'),
        'opcode': ({'opcode': -1}, ValueError, 'does not fit in 4 bits of the header'),
        'Z': ({'z': 8}, ValueError, 'does not fit in 3 bits of the header'),
        'empty label': ({'qd': [(b'a..b', 1, 1)]}, m.InvalidName, 'is not a valid name: one of its labels has 0 octets'),
        'long label': ({'qd': [(b'a' * 64, 1, 1)]}, m.InvalidName, 'is not a valid name: one of its labels has 64 octets'),
        'long name': ({'qd': [(b'.'.join([b'a' * 63] * 4), 1, 1)]}, m.InvalidName, 'is not a valid name: it has 255 octets'),
        'data': ({'an': [(b'a', 1, 1, 0, b'x' * 65536)]}, ValueError, 'does not fit in its field'),
    })  # fmt: skip
    def test_value_too_large_for_its_field_is_refused(self, changed, error, says):
        with pytest.raises(error, match=says):
            pack(MESSAGE._replace(**changed))


QUERY = dns.message.make_query('wWw.exAmple.com', 'A', id=0x4142)
WWW = b'www.example.com', TYPES.A


def read(data, question=WWW, query=QUERY):
    return m.read_reply(*question, query.to_wire(), data, 100.0)


def wire(*answer, **sections_):
    return reply(*answer, **sections_)(QUERY)


def chain_of(count):
    """A reply with so many aliases, and the address of the last."""
    links = [f'n{i}.example. 5 IN CNAME n{i + 1}.example.' for i in range(1, count)]
    return wire('? 5 IN CNAME n1.example.', *links, f'n{count}.example. 5 IN A 192.0.2.1')


A1, B1 = '? 20 IN A 192.0.2.1', 'b.example. 20 IN A 192.0.2.1'
TO_B = '? 50 IN CNAME b.example.'
CANNOT_BE_READ = 'gave a reply that cannot be read: '
SOA_TTL_3 = SOA.replace('3 4 20', '3 4 3')


class TestQuestionsAndAnswers:
    """What `read_reply` decides about one datagram."""

    @cases('data', {
        'empty': b'',
        'bare header cut off': b'\x41\x42\x80\5' + bytes(7),  # of REFUSED
        'header alone': wire(A1)[:12],
        'question cut off': wire(A1)[:30],
        'query': QUERY.to_wire(),
        'other ID, first octet': edited(set_octet(0, lambda o: o ^ 1))(QUERY),
        'other ID, second octet': edited(set_octet(1, lambda o: o ^ 1))(QUERY),
        'opcode 1': edited(set_octet(2, lambda o: o | 0x08))(QUERY),
        'opcode 8': edited(set_octet(2, lambda o: o | 0x40))(QUERY),
        'no question': edited(set_octet(5, lambda _: 0))(QUERY),
        'two questions': edited(set_octet(5, lambda _: 2))(QUERY),
        'very many questions': edited(set_octet(4, lambda _: 1))(QUERY),
        'other type': edited(set_octet(30, lambda o: o ^ 29))(QUERY),
        'other class': edited(set_octet(32, lambda o: o ^ 2))(QUERY),
        'other case': wrong_case(QUERY),
        'other name': question_in(lambda name: 'x' + name[1:])(QUERY),
        'longer name': question_in(lambda name: 'x' + name)(QUERY),
    })  # fmt: skip
    def test_datagram_that_is_no_reply_is_ignored(self, data):  # RFC 5452 §9.1
        assert read(data) is None

    @cases('data, addresses, expires_at, aliases', {  # and, with =, when an address expires that does so later than the answer
        'an address': (wire(A1), '192.0.2.1', 120, ''),
        'other sections': (wire(A1, authority=[SOA], additional=['x.example. 1 IN A 192.0.2.9']), '192.0.2.1', 120, ''),
        'two addresses': (wire(A1, '? 30 IN A 192.0.2.2'), '192.0.2.1 192.0.2.2=130', 120, ''),
        'owner in capitals': (wire('WWW.EXAMPLE.COM. 20 IN A 192.0.2.1'), '192.0.2.1', 120, ''),
        'TTL 0': (wire('? 0 IN A 192.0.2.1'), '192.0.2.1', 100, ''),
        'truncated, but usable': (wire(A1, flags=dns.flags.TC), '192.0.2.1', 120, ''),
        'other owner': (wire(A1, 'other.example. 1 IN A 192.0.2.66'), '192.0.2.1', 120, ''),
        'other types': (wire(A1, '? 1 IN AAAA 2001:db8::1', '? 1 IN TXT x'), '192.0.2.1', 120, ''),
        'other class': (wire(A1, '? 1 CH TXT x'), '192.0.2.1', 120, ''),
        'alias': (wire('? 9 IN CNAME b.example.', B1), '192.0.2.1', 109, 'b.example'),
        'alias after its address': (wire(B1, '? 50 IN CNAME B.example.'), '192.0.2.1', 120, 'b.example'),
        'alias to two addresses': (
            wire('? 25 IN CNAME b.example.', B1, 'b.example. 30 IN A 192.0.2.2'), '192.0.2.1 192.0.2.2=125', 120, 'b.example',
        ),
        'two aliases': (wire(TO_B, 'b.example. 7 IN CNAME c.', 'c. 9 IN A 192.0.2.1'), '192.0.2.1', 107, 'b.example c'),
        'sixteen aliases': (chain_of(16), '192.0.2.1', 105, ' '.join(f'n{i}.example' for i in range(1, 17))),
        'alias beside an address': (wire(A1, '? 1 IN CNAME b.example.'), '192.0.2.1', 120, ''),
        'alias alone': (wire('? 9 IN CNAME b.example.', flags=0), '', 109, 'b.example'),
        'alias alone, truncated': (wire('? 9 IN CNAME b.example.', authority=[SOA], flags=dns.flags.TC), '', 109, 'b.example'),
        'alias and address of another': (wire('? 9 IN CNAME b.example.', 'c.example. 20 IN A 192.0.2.66'), '', 109, 'b.example'),
        'TTL above a week': (wire('? 604801 IN A 192.0.2.1'), '192.0.2.1', 604900, ''),
        'greatest TTL': (wire('? 2147483647 IN A 192.0.2.1'), '192.0.2.1', 604900, ''),
        'TTL below zero': (wire(A1).replace(b'\0\0\0\x14', b'\x80\0\0\0'), '192.0.2.1', 100, ''),  # RFC 2181 §8
    })  # fmt: skip
    def test_records_are_read(self, data, addresses, expires_at, aliases):
        answer = read(data)
        assert (answer.expires_at, b' '.join(answer.aliases).decode(), answer.negative) == (expires_at, aliases, None)
        assert [(str(record), record.expires_at) for record in answer.records] == [
            (address, float(at or expires_at)) for address, _, at in (each.partition('=') for each in addresses.split())
        ]

    @cases('qtype, record, expected', {
        'AAAA': (TYPES.AAAA, 'AAAA 2001:db8::1', ipaddress.ip_address('2001:db8::1')),
        'TXT': (TYPES.TXT, 'TXT "some" "thing"', b'something'),
        'empty TXT': (TYPES.TXT, 'TXT ""', b''),
        'CNAME': (TYPES.CNAME, 'CNAME Other.example.', b'other.example'),
    })  # fmt: skip
    def test_records_of_other_types_are_read(self, qtype, record, expected):
        query = dns.message.make_query('www.example.com', qtype.name)
        (found,) = read(reply(f'? 20 IN {record}')(query), (b'www.example.com', qtype), query).records
        assert (found, found.expires_at) == (expected, 120)

    @cases('data, missing, expires_at', {
        'NXDOMAIN, MINIMUM': (wire(authority=[SOA.replace('4 20', '4 4')], rcode=3), m.NameDoesNotExist, 104),  # RFC 2308 §5
        'NXDOMAIN, TTL': (wire(authority=[SOA.replace(' 30 ', ' 9 ')], rcode=3), m.NameDoesNotExist, 109),
        'NXDOMAIN for long': (wire(authority=['example.com. 300 IN SOA ns. a. 1 2 3 4 300'], rcode=3), m.NameDoesNotExist, 110),
        'NXDOMAIN with NS': (wire(authority=['example.com. 30 IN NS ns.example.'], rcode=3), m.NameDoesNotExist, 100),
        'NXDOMAIN, truncated': (wire(authority=[SOA], rcode=3, flags=dns.flags.TC), m.NameDoesNotExist, 100),
        'NXDOMAIN with an address': (wire(A1, rcode=3), m.NameDoesNotExist, 100),
        'NXDOMAIN of an alias': (wire('? 5 IN CNAME b.example.', authority=[SOA], rcode=3), m.NameDoesNotExist, 105),  # RFC 2308 §2.1
        'NODATA': (wire(authority=[SOA]), m.NoRecords, 110),
        'NODATA, neither AA nor RA': (wire(authority=[SOA], flags=0), m.NoRecords, 110),
        'NODATA with an SOA of another class': (wire(authority=[SOA.replace(' IN ', ' CH ')]), m.NoRecords, 100),
        'NODATA with an SOA of another zone': (wire(authority=[SOA.replace('example.com.', 'elsewhere.', 1)]), m.NoRecords, 110),
        'NODATA without an SOA': (wire(), m.NoRecords, 100),
        'alias of another class': (wire('? 5 CH CNAME b.example.', authority=[SOA]), m.NoRecords, 110),
        'NODATA, AA': (wire(flags=dns.flags.AA), m.NoRecords, 100),
        'other type': (wire('? 20 IN AAAA 2001:db8::1'), m.NoRecords, 100),
        'other owner': (wire('other.example. 1 IN A 192.0.2.66', authority=[SOA]), m.NoRecords, 110),
        'address in the additional section': (wire(additional=[A1]), m.NoRecords, 100),
        'address in the authority section': (wire(authority=[A1]), m.NoRecords, 100),
        'NODATA of an alias': (wire('? 5 IN CNAME b.example.', authority=[SOA]), m.NoRecords, 105),
        'NODATA of a longer alias': (wire('? 50 IN CNAME b.example.', authority=[SOA]), m.NoRecords, 110),
        'TTL below zero': (wire(authority=[SOA]).replace(b'\0\0\0\x1e', b'\x80\0\0\x1e'), m.NoRecords, 100),
        'MINIMUM below zero': (wire(authority=[SOA]).replace(b'\0\0\0\x14', b'\x80\0\0\x14'), m.NoRecords, 100),
    })  # fmt: skip
    def test_negative_reply_is_read(self, data, missing, expires_at):  # RFC 2308
        answer = read(data)
        assert (answer.records, answer.negative, answer.expires_at) == ((), missing, expires_at)

    @cases('data, error, says', {
        'SERVFAIL': (wire(rcode=2), m.ResponseCodeError, 'answered SERVFAIL'),
        'SERVFAIL with an address': (wire(A1, rcode=2), m.ResponseCodeError, 'answered SERVFAIL'),
        'rcode 6': (wire(rcode=6), m.ResponseCodeError, 'answered rcode 6'),
        'rcode 15': (wire(rcode=15), m.ResponseCodeError, 'answered rcode 15'),
        'lame': (wire(flags=0), m.TemporaryResolverError, 'lame'),
        'referral': (wire(authority=['com. 9 IN NS a.example.'], flags=0), m.TemporaryResolverError, 'lame'),
        'truncated': (wire(flags=dns.flags.TC | dns.flags.RA), m.AnswerTooLong, '1,232 octets'),
        'truncated, with an SOA': (wire(authority=[SOA], flags=dns.flags.TC | dns.flags.RA), m.AnswerTooLong, '1,232 octets'),
        'truncated within a record': (wire(A1, flags=dns.flags.TC)[:-1], m.AnswerTooLong, '1,232 octets'),
        'truncated error': (wire(A1, rcode=2, flags=dns.flags.TC)[:-1], m.TemporaryResolverError, CANNOT_BE_READ),
        'address cut off': (wire(A1)[:-1], m.TemporaryResolverError, CANNOT_BE_READ + 'the record whose data end at octet 49 is cut off'),
        'SOA cut off': (wire(authority=[SOA], rcode=3)[:-1], m.TemporaryResolverError, CANNOT_BE_READ),
        'SERVFAIL with a record that is cut off': (wire(A1, rcode=2)[:-1], m.TemporaryResolverError, CANNOT_BE_READ),
        'answer that is not there': (wire(A1)[:33], m.TemporaryResolverError, CANNOT_BE_READ),
        'three octets': (wire(A1)[:-5] + b'\3' + wire(A1)[-4:-1], m.BadAddress, '3 octets, not 4,'),
        'three octets of an alias': (wire(TO_B, B1)[:-5] + b'\3abc', m.BadAddress, 'b.example'),
        'three octets after a good address': (wire(A1, '? 5 IN A 192.0.2.2')[:-5] + b'\3abc', m.BadAddress, '3 octets'),
        'alias to itself': (wire('? 5 IN CNAME www.example.com.'), m.AliasChainTooLong, 'loop of aliases: www.example.com → www.'),
        'loop of two': (wire('? 5 IN CNAME b.example.', 'b.example. 5 IN CNAME www.EXAMPLE.com.'), m.AliasChainTooLong, 'loop'),
        'seventeen aliases': (chain_of(17), m.AliasChainTooLong, 'more than 16'),
    })  # fmt: skip
    def test_useless_reply_is_a_failure_with_the_reason(self, data, error, says):
        failure = read(data)
        assert failure.error is error
        assert says in failure.what
        assert failure.rcode == (data[3] & 15 if error is m.ResponseCodeError else 0)

    def test_text_record_that_is_cut_off_makes_its_reply_unreadable(self):
        query = dns.message.make_query('www.example.com', 'TXT')
        data = reply('? 20 IN TXT "some"')(query).replace(b'\4some', b'\5some')
        failure = read(data, (b'www.example.com', TYPES.TXT), query)
        assert failure[:2] == (m.TemporaryResolverError, CANNOT_BE_READ + 'a character-string of TXT ends at 6 of 5 octets')

    @cases('rcode, additional', {
        'rcode 6': (6, b''), 'rcode 15': (15, b''), 'SERVFAIL with an OPT record': (2, b'\0\0\x29\4\xd0\0\0\0\0\0\0'),
    })  # fmt: skip
    def test_reply_without_a_question_is_a_failure_by_any_error_rcode(self, rcode, additional):
        failure = read(b'AB' + bytes([0x80, rcode]) + bytes(7) + bytes([bool(additional)]) + additional)
        assert (failure.error, failure.rcode) == (m.ResponseCodeError, rcode)

    @cases('beside', {
        'of another name': 'other.example. 20 IN TXT ab',  # which becomes an A record of three octets
        'of another type': '? 20 IN TXT ab',  # an AAAA record
    })  # fmt: skip
    def test_wrong_length_of_a_record_that_was_not_asked_for_is_no_error(self, beside):
        qtype = b'\0\1' if 'other' in beside else b'\0\x1c'
        data = wire(A1, beside).replace(b'\0\x10\0\1\0\0\0\x14\0\3\2ab', qtype + b'\0\1\0\0\0\x14\0\3\2ab')
        assert data != wire(A1, beside)
        assert texts(read(data).records) == ['192.0.2.1']

    @cases('sections_, expires_at', {
        'after NS': ({'authority': ['example.com. 30 IN NS ns.example.', SOA]}, 110), 'in the additional section': ({'additional': [SOA]}, 100),
    })  # fmt: skip
    def test_soa_counts_wherever_it_stands_in_the_authority_section_alone(self, sections_, expires_at):
        assert (read(wire(**sections_)).negative, read(wire(**sections_)).expires_at) == (m.NoRecords, expires_at)
        behind_alias = read(wire('? 50 IN CNAME b.example.', **sections_))
        assert behind_alias.negative is (m.NoRecords if expires_at > 100 else None)

    @cases('text, additional', {'three octets, and another section': ('ab', ['x.example. 1 IN A 192.0.2.9']), 'five octets': ('abcd', [])})
    def test_address_of_a_wrong_length_before_other_octets_is_bad(self, text, additional):
        size = bytes([len(text) + 1, len(text)]) + text.encode()  # of the data, and of the text in it
        data = wire(f'? 20 IN TXT {text}', additional=additional).replace(b'\0\x10\0\1\0\0\0\x14\0' + size, b'\0\1\0\1\0\0\0\x14\0' + size)
        failure = read(data)
        assert (failure.error, f'{len(text) + 1} octets, not 4' in failure.what) == (m.BadAddress, True)


class TestMixCase:
    """The case of letters in queries, at random or by `transform_fqdn`."""

    @hypothesis.given(names)
    def test_mixing_changes_nothing_but_the_case_of_letters(self, name):
        assert mix_case(name).lower() == name.lower()

    def test_letters_are_mixed_evenly_and_each_on_its_own(self):
        drawn = [mix_case(b'aZ-5.aZ') for _ in range(4000)]
        counts = [sum(name[i : i + 1].isupper() for name in drawn) for i in (0, 1, 5, 6)]
        assert all(1750 < count < 2250 for count in counts)
        assert len({bytes(name[i] for i in (0, 1, 5, 6)) for name in drawn}) == 16

    async def test_own_transform_fqdn_is_used(self, nameserver):
        server = nameserver(a('192.0.2.1'))
        for transform, sent in ((bytes.upper, 'WWW.EXAMPLE.COM'), (lambda fqdn: fqdn, 'www.example.com')):
            resolve, _ = resolver_for(server, transform_fqdn=transform)
            await resolve('www.Example.com', TYPES.A)
            assert server.queries[-1].name == sent

    @cases('transform', {'other name': lambda _: b'evil.example', 'text': lambda name: name.decode(), 'longer': lambda name: name + b'.'})
    async def test_transform_fqdn_that_changes_more_than_case_is_an_error(self, resolving, transform):
        server, resolve = resolving(a('192.0.2.1'), transform_fqdn=transform)
        with pytest.raises(m.ResolverError, match='transform_fqdn may change only the case of letters'):
            await resolve('www.example.com', TYPES.A)
        assert server.queries == []

    @cases('qtype', {'one type': TYPES.A, 'both types': (TYPES.A, TYPES.AAAA)})
    @cases('before', {'alone': 0, 'beside another look-up': 1})
    async def test_error_of_transform_fqdn_passes_as_it_is(self, nameserver, qtype, before):
        refuse = raises(errno.EMFILE, lambda fqdn: fqdn == b'bad.example')
        resolve, _ = resolver_for(nameserver(after(0.1, four)), transform_fqdn=lambda fqdn: refuse(fqdn) or fqdn)
        others = start(*(resolve('www.example.com', TYPES.A) for _ in range(before)))
        await asyncio.sleep(0)
        with pytest.raises(OSError, match='Too many open files') as caught:
            await resolve('bad.example', qtype)
        assert type(caught.value) is OSError
        await asyncio.gather(*others)

    async def test_wrong_case_is_reported_with_the_cure(self, nameserver):
        one, two = nameserver(wrong_case), nameserver(wrong_case, address='127.0.0.2')
        error = await error_of(resolver_for(one, two, times=1)[0]('www.example.com', TYPES.A))
        said = str(error).removeprefix('www.example.com A: ').split('; ')
        assert said == [f'{server.text} {what}' for server in (one, two) for what in (IGNORED, 'timed out after 0.5 s')]

    async def test_late_reply_in_another_case_does_not_decide_the_error(self, nameserver):
        late, bad = nameserver(after(1.5, wrong_case)), nameserver(servfail)
        error = await error_of(asking((1, late.at), (1, bad.at), 2)('www.example.com', TYPES.A))
        assert (type(error), IGNORED in str(error), error.rcode, now()) == (m.ResponseCodeError, True, 2, 1003)

    @cases('change, says', {
        'other case': (lambda data: data, 'timed out|does not keep the case'),
        'other case, and cut off': (lambda data: data[:-1], 'timed out|does not keep the case'),
        'other ID': (lambda data: bytes([data[0] ^ 1]) + data[1:], 'timed out'),
        'query': (lambda data: data[:2] + b'\1' + data[3:], 'timed out'),
        'other name': (lambda data: data.replace(b'EXAMPLE', b'ANOTHER'), 'timed out'),
        'question cut off': (lambda data: data[:20], 'timed out'),
        'same case, and cut off': (lambda data: data.replace(b'EXAMPLE', b'example')[:-1], 'cannot be read'),
    })  # fmt: skip
    async def test_reply_in_another_case_is_told_from_others(self, resolving, change, says):
        _, resolve = resolving(lambda query: change(question_in(str.upper)(query)), times=1, transform_fqdn=lambda fqdn: fqdn)
        with pytest.raises(m.TemporaryResolverError) as caught:
            await resolve('example', TYPES.A)
        found = [what for what in ('timed out', 'does not keep the case', 'cannot be read') if what in str(caught.value)]
        assert found == says.split('|')


def opened_by(open_):
    """The module opens files by this function of a path: it raises, or returns lines, or None for the file as it was before."""
    before = getattr(m, 'open', open)
    return unittest.mock.patch('aiodnsresolver.open', lambda path, mode: open_(path) or before(path, mode), create=True)


def written_while_read(file, text, lines):
    """A file that gets a new text whenever it is read, of which these lines are seen."""
    return opened_by(lambda path: path == str(file) and file.write_text(text) and contextlib.nullcontext(lines))


class TestFiles:
    """The system's files: when they are read, and what damages do."""

    async def test_file_is_parsed_again_only_when_it_has_changed(self, hosts_file):
        hosts_file.write_text('one')
        os.utime(hosts_file, (0, 0))
        parsed = []
        file = m.SystemFile(str(hosts_file), lambda lines: parsed.append([*lines]) or parsed[-1])
        assert file.read(0) == ['one']
        assert file.read(0.5) is file.read(5) is parsed[0]
        hosts_file.write_text('two!')
        assert file.read(5.9) == ['one']  # looked at no more than once a second
        assert file.read(6) == ['two!']
        hosts_file.unlink()
        assert file.read(7) == []
        assert file.read(8) is parsed[2]
        hosts_file.with_name('target').write_text('three')
        hosts_file.symlink_to('target')
        assert file.read(9) == ['three']
        assert len(parsed) == 4

    async def test_file_with_no_reload_is_read_again_only_if_it_was_half(self, nameserver, resolv_conf):
        resolv_conf.write_text('options no-reload\nnameserver 127.0.0.1\n')
        resolve, _ = Resolver()
        with at_their_ports(nameserver(a('192.0.2.1', ttl=0))):
            with written_while_read(resolv_conf, 'options no-reload\nnameserver 127.0.0.2\n', ['options no-reload\n']):
                assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        for _ in range(2):
            with redirected(lambda ip, _: (ip, 9)), pytest.raises(m.ResolverError, match=r'127\.0\.0\.2:9'):
                await resolve('www.example.com', TYPES.A)
            resolv_conf.write_text('nameserver 127.0.0.3\n')
            await asyncio.sleep(1)

    async def test_file_rewritten_within_a_tick_of_the_clock_of_its_file_system_is_read_again(self, hosts_file, monkeypatch):
        hosts_file.write_text('192.0.2.1 a\n')
        file = m.SystemFile(str(hosts_file), m.parse_hosts)
        stat, real, age = os.stat(hosts_file), os.stat, 0.0
        with monkeypatch.context() as patched:  # each version has the size and the times of the first
            patched.setattr(os, 'stat', lambda path, **options: stat if path == str(hosts_file) else real(path, **options))
            patched.setattr(time, 'time', lambda: stat.st_mtime + age)
            assert file.read(0) == {b'a': ['192.0.2.1']}
            hosts_file.write_text('192.0.2.2 a\n')
            assert file.read(1) == {b'a': ['192.0.2.1']}
            age = 2.0
            assert file.read(2) == {b'a': ['192.0.2.2']}
            hosts_file.write_text('192.0.2.3 a\n')
            assert file.read(9) == {b'a': ['192.0.2.2']}  # a change as late as this has another time

    @cases('make, expected', {
        'missing': (lambda path: None, {}),
        'directory': (lambda path: path.mkdir(), {}),
        'pipe': (os.mkfifo, {}),
        'half a line': (lambda path: path.write_text('192.0.2.1 a\n192.0.'), {b'a': ['192.0.2.1']}),
        'ten megabytes': (lambda path: path.write_text('192.0.2.1 a\n' + '#' * 10_000_000), {b'a': ['192.0.2.1']}),
        'binary': (
            lambda path: path.write_bytes(b'\xff\xfe\0\n192.0.2.1 a\n\xff.\xff b\n192.0.2.3 b\xe9 c\n' + bytes(range(14))),
            {b'a': ['192.0.2.1'], b'b': ['\ufffd.\ufffd'], b'c': ['192.0.2.3']},
        ),
    })  # fmt: skip
    async def test_damaged_file_does_no_harm(self, hosts_file, make, expected):
        make(hosts_file)
        assert m.SystemFile(str(hosts_file), m.parse_hosts).read(0) == expected

    async def test_octets_of_resolv_conf_that_are_no_text_spoil_their_line_at_most(self, resolv_conf):
        resolv_conf.write_bytes(b'nameserver \xff\nsearch a\xe9.example b.example\noptions ndots:5\nnameserver 192.0.2.1\n')
        conf = m.SystemFile(str(resolv_conf), m.parse_resolv_conf).read(0)
        assert conf[:3] == ((m.to_nameserver('192.0.2.1', 53),), (b'b.example',), 5)

    async def test_file_without_permission_does_no_harm(self, hosts_file):
        with opened_by(raises(errno.EACCES)):
            assert m.SystemFile(str(hosts_file), m.parse_hosts).read(0) == {}

    async def test_file_written_to_while_it_is_read_is_read_again(self, hosts_file):
        known, new = (m.SystemFile(str(hosts_file), m.parse_hosts) for _ in range(2))
        hosts_file.write_text('192.0.2.1 a\n')
        assert known.read(0) == {b'a': ['192.0.2.1']}
        for file, meanwhile in ((known, '192.0.2.1'), (new, '192.0.2.2')):  # of a file that was never read, half is better than none
            hosts_file.write_text('192.0.2.1 a b\n')
            with written_while_read(hosts_file, '192.0.2.2 a\n192.0.2.2 b\n', ['192.0.2.2 a\n']):
                assert file.read(1) == {b'a': [meanwhile]}
        assert new.read(1) == known.read(2) == {b'a': ['192.0.2.2'], b'b': ['192.0.2.2']}

    async def test_file_unreadable_for_want_of_descriptors_stays_as_it_was(self, hosts_file):
        known, new = (m.SystemFile(str(hosts_file), m.parse_hosts) for _ in range(2))
        hosts_file.write_text('192.0.2.1 a\n')
        assert known.read(0) == {b'a': ['192.0.2.1']}
        hosts_file.write_text('192.0.2.1 a b\n')
        with opened_by(raises(errno.EMFILE)):
            assert known.read(1) == {b'a': ['192.0.2.1']}
            with pytest.raises(m.FileShortage, match='hosts cannot be read: Too many open files'):
                new.read(1)
        assert new.read(1.1) == known.read(2) == new.read(2) == {b'a': ['192.0.2.1'], b'b': ['192.0.2.1']}

    @pytest.mark.parametrize('file', ['hosts', 'resolv.conf'])
    async def test_file_never_read_for_want_of_descriptors_is_a_temporary_error(self, nameserver, file):
        server = nameserver(a('192.0.2.1'))
        with system(server, search='lan.example') as resolve:
            with opened_by(raises(errno.EMFILE, lambda path: path == f'/etc/{file}')):
                for qtype, types in ((TYPES.A, 'A'), (BOTH, 'A, AAAA')):
                    error = await error_of(resolve('db', qtype))
                    assert (type(error), isinstance(error.__cause__, OSError)) == (m.TemporaryResolverError, True)
                    assert str(error) == f'db {types}: /etc/{file} cannot be read: Too many open files'
            assert texts(await resolve('db', TYPES.A)) == ['192.0.2.1']
        assert server.names == ['db.lan.example']

    async def test_files_are_opened_as_existing_suites_patch_it(self):
        opened = []
        with unittest.mock.patch('aiodnsresolver.open', side_effect=lambda *args: opened.append(args) or contextlib.nullcontext([])):
            assert await result_of(Resolver()[0]('x.invalid', TYPES.A)) is m.NameDoesNotExist
        assert sorted(opened) == [('/etc/hosts', 'r'), ('/etc/resolv.conf', 'r')]

    async def test_change_of_a_file_is_seen_within_a_second_and_logged(self, nameserver, caplog, hosts_file, resolv_conf):
        caplog.set_level(logging.INFO, logger='aiodnsresolver')
        hosts_file.write_text('')
        resolv_conf.write_text('nameserver 127.0.0.1\n')
        resolve, _ = Resolver()
        with at_their_ports(nameserver(a('192.0.2.1', ttl=0)), nameserver(a('192.0.2.2', ttl=0), address='127.0.0.2')):
            for file, text, before, afterwards in (
                (resolv_conf, 'nameserver 127.0.0.2\n', '192.0.2.1', '192.0.2.2'),
                (hosts_file, '# nothing\n', '192.0.2.2', '192.0.2.2'),
                (resolv_conf, 'nameserver x\n', '192.0.2.2', '192.0.2.1'),
                (hosts_file, '192.0.2.7 www.example.com\n', '192.0.2.1', '192.0.2.7'),
            ):
                assert texts(await resolve('www.example.com', TYPES.A)) == [before]
                file.write_text(text)
                assert texts(await resolve('www.example.com', TYPES.A)) == [before]
                await asyncio.sleep(1)
                assert texts(await resolve('www.example.com', TYPES.A)) == [afterwards]
        assert [(record.levelname, record.getMessage().replace(f'{hosts_file.parent}/', '')) for record in caplog.records] == [
            ('INFO', 'resolv.conf has changed, and was read again'),
            ('INFO', 'resolv.conf has changed, and was read again'),
            ('WARNING', "resolv.conf: a line without an IP address is ignored: 'nameserver x'"),
            ('WARNING', 'resolv.conf: it is missing or names no nameserver, so that 127.0.0.1 is asked'),
            ('INFO', 'hosts has changed, and was read again'),
        ]

    @cases('conf, says', {
        'plain': ('nameserver 127.0.0.1', ''),
        'missing': (None, 'it is missing or names no nameserver, so that 127.0.0.1 is asked'),
        'empty': ('', 'it is missing or names no nameserver, so that 127.0.0.1 is asked'),
        'port': ('nameserver 127.0.0.1#53', "what is more than an IP address is ignored: 'nameserver 127.0.0.1#53'"),
        'comment': ('nameserver 127.0.0.1 # home', ''),
        'name': ('nameserver 127.0.0.1\nnameserver ns\nnameserver\x1b[2J', "a line without an IP address is ignored: 'nameserver ns'"),
        'no address, and very long': (
            'nameserver 127.0.0.1\nnameserver ' + 'x' * 1000, f"a line without an IP address is ignored: 'nameserver {'x' * 69}'",
        ),
    })  # fmt: skip
    async def test_unusual_resolv_conf_is_said_once(self, nameserver, caplog, conf, says):
        resolve, _ = Resolver()
        with at_their_ports(nameserver(a('192.0.2.1', ttl=0))), files(resolv_conf=conf):
            for _ in range(3):
                assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
                await asyncio.sleep(2)
        said = [('WARNING', f'/etc/resolv.conf: {says}')] if says else []
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == said


class TestResolvConf:
    """resolv.conf(5)."""

    @cases('lines, expected', {
        'nameserver': (['nameserver 192.0.2.1\n'], {'nameservers': ['192.0.2.1:53']}),
        'comment and tab': (
            ['nameserver 192.0.2.1 # office\n', 'nameserver\t2001:db8::1\r\n'], {'nameservers': ['192.0.2.1:53', '[2001:db8::1]:53']},
        ),
        'scope id': (['nameserver fe80::1%lo\n'], {'nameservers': ['[fe80::1%lo]:53']}),
        'a nameserver twice': (['nameserver ::1', 'nameserver ::2', 'nameserver ::1'], {'nameservers': ['[::1]:53', '[::2]:53']}),
        'nine nameservers': ([f'nameserver 192.0.2.{i}' for i in range(9)], {'nameservers': [f'192.0.2.{i}:53' for i in range(9)]}),
        'no address': (['nameserver dns.example\n', 'nameserver\n', 'nameserver 1.2.3\n', 'nonsense\n', '\n', ' '], {}),
        'final dot': (['nameserver 192.0.2.1.'], {}),
        'bad scope ids': (['nameserver fe80::1%\xb2', 'nameserver fe80::1%a\0b', 'nameserver fe80::1%9999999999'], {}),
        'comments': (['# nameserver 192.0.2.1', ';nameserver 192.0.2.1', '  nameserver 192.0.2.2;x'], {'nameservers': ['192.0.2.2:53']}),
        'byte order mark': (['\ufeffnameserver 192.0.2.1'], {'nameservers': ['192.0.2.1:53']}),
        'byte order mark in Latin-1': (['ï»¿nameserver 192.0.2.1'], {'nameservers': ['192.0.2.1:53']}),
        'search': (['search A.example b.example.\n'], {'search': (b'a.example', b'b.example')}),
        'domain': (['domain a.example b.example\n'], {'search': (b'a.example',)}),
        'domain after search': (['search a.example\n', 'domain b.example\n'], {'search': (b'b.example',)}),
        'search after domain': (['domain a.example\n', 'search b.example\n'], {'search': (b'b.example',)}),
        'search with bad names': (['search . a..b c.example\n'], {'search': (b'c.example',)}),
        'search with one name twice': (['search a.example b.example A.example.\n'], {'search': (b'a.example', b'b.example')}),
        'empty search': (['search\n'], {'search': ()}),
        'useless searches after one': (['search a.example\n', 'search\n', 'search a..b\n', 'domain'], {'search': (b'a.example',)}),
        'search of the root': (['search a.example\n', 'search .\n'], {'search': ()}),
        'all options': (
            ['options ndots:5 timeout:3 attempts:2 rotate no-reload randomize-case:0 no-aaaa\n'],
            {'ndots': 5, 'timeout': 3, 'attempts': 2, 'rotate': True, 'reload': False, 'randomize_case': False, 'no_aaaa': True},
        ),
        'out of bounds': (['options ndots:99 timeout:0\n', 'options attempts:99\n'], {'ndots': 15, 'timeout': 1, 'attempts': 5}),
        'out of the other bounds': (['options timeout:99 attempts:0 ndots:0'], {'timeout': 30, 'attempts': 1, 'ndots': 0}),
        'leading zeros': (['options ndots:00000000005 timeout:000'], {'ndots': 5, 'timeout': 1}),
        'nonsense': (['options ndots: timeout:x attempts:-1 ndots:² edns0 randomize-case:1 trust-ad timeout:1e9'], {}),
        'ten thousand digits': (['options timeout:' + '9' * 10000], {'timeout': 30}),
    })  # fmt: skip
    def test_lines_are_parsed(self, lines, expected):
        conf = m.parse_resolv_conf(lines)
        nameservers = list(map(str, conf.nameservers))
        assert conf._replace(nameservers=nameservers, unusual=()) == m.ResolvConf(**{'nameservers': ['127.0.0.1:53']} | expected)

    def test_empty_file_gives_the_defaults(self):
        assert m.parse_resolv_conf([])[:-1] == ((m.to_nameserver('127.0.0.1', 53),), (), 1, 0.5, 5, False, True, True, False)

    def test_scope_id_becomes_the_number_of_an_interface(self):  # since connect ignores one in the text
        addresses = [m.to_nameserver(ip, 53).address() for ip in ('fe80::1%lo', 'fe80::1%7', '::1')]
        assert addresses == [('fe80::1', 53, 0, socket.if_nametoindex('lo')), ('fe80::1', 53, 0, 7), ('::1', 53)]
        with pytest.raises(OSError, match='interface|device'):
            m.to_nameserver('fe80::1%nosuch', 53).address()

    @pytest.mark.timeout(10)
    def test_bad_scope_id_is_refused_in_no_time(self):
        for scope_id in ('a' * 1_000_000 + ' ', '1' * 1_000_000, '1234567890'):
            with pytest.raises(ValueError, match='is not a valid scope id'):
                m.to_nameserver(f'fe80::1%{scope_id}', 53)

    async def test_defaults_are_half_a_second_and_five_attempts(self, listed):
        one, two, resolve = listed(silence, silence)
        timed_out = r'timed out after 0.5 s \(5 times\)'
        with pytest.raises(m.ResolverTimeout, match=f'{one.text} {timed_out}; {two.text} {timed_out}'):
            await resolve('www.example.com', TYPES.A)
        assert (one.times, now()) == ([1000, 1001, 1002, 1003, 1004], 1005)

    @cases('options, timeout, times, ends_at', {
        'timeout and attempts': ('timeout:2 attempts:3', None, 3, 1006),
        'timeout': ('timeout:2', None, 5, 1010),
        'timeout of the caller': ('timeout:2', 0.25, 5, 1001.25),
    })  # fmt: skip
    async def test_timeout_of_the_caller_comes_before_that_of_the_file(self, listed, options, timeout, times, ends_at):
        server, resolve = listed(silence, options=options, timeout=timeout)
        assert await result_of(resolve('www.example.com', TYPES.A)) is m.ResolverTimeout
        assert (len(server.queries), now()) == (times, ends_at)

    async def test_rotate_begins_with_another_nameserver_each_time(self, listed):
        *servers, resolve = listed(four, four, four, options='rotate')
        await ask_in_turn(resolve, 6)
        assert [' '.join(server.names) for server in servers] == ['n0.example n3.example', 'n1.example n4.example', 'n2.example n5.example']

    @cases('qtype', {'A': TYPES.A, 'both': BOTH, 'AAAA first': BOTH[::-1]})
    async def test_no_aaaa_asks_for_a_alone(self, listed, qtype):
        known = {'www.example.com': by(A=alias('b.example'), AAAA=six), 'b.example': by(A=four, AAAA=six)}
        server, resolve = listed(zone(known), options='no-aaaa')
        for _ in range(2):
            assert texts(await resolve('www.example.com', qtype)) == ['192.0.2.1']
        assert server.types == [1, 1]

    @cases('given, qtype, error, says', {
        'AAAA': (six, TYPES.AAAA, m.NoRecords, 'www.example.com AAAA: has no such record: resolv.conf says no-aaaa'),
        'both, NXDOMAIN': (nxdomain, BOTH, m.NameDoesNotExist, 'www.example.com A, AAAA: does not exist: 127.0.0.1:'),
        'both, NXDOMAIN, AAAA first': (nxdomain, BOTH[::-1], m.NameDoesNotExist, 'www.example.com AAAA, A: does not exist: 127.0.0.1:'),
        'both, NODATA': (nodata, BOTH, m.NoRecords, 'www.example.com A, AAAA: has no such record: 127.0.0.1:'),
        'both, NODATA, AAAA first': (nodata, BOTH[::-1], m.NoRecords, 'www.example.com AAAA, A: has no such record: 127.0.0.1:'),
        'both, SERVFAIL': (servfail, BOTH, m.ResponseCodeError, 'www.example.com A, AAAA: 127.0.0.1:'),
        'both, silence': (silence, BOTH, m.ResolverTimeout, 'www.example.com A, AAAA: 127.0.0.1:'),
    })  # fmt: skip
    async def test_error_with_no_aaaa_is_that_of_a(self, listed, given, qtype, error, says):
        server, resolve = listed(given, options='no-aaaa')
        found = await error_of(resolve('www.example.com', qtype))
        assert (type(found), str(found).startswith(says), set(server.types) <= {1}) == (error, True, True)

    async def test_no_aaaa_does_not_concern_the_hosts_file(self, listed):
        *_, resolve = listed(nxdomain, options='no-aaaa', hosts='2001:db8::1 db')
        for qtype in (TYPES.AAAA, BOTH):
            assert texts(await resolve('db', qtype)) == ['2001:db8::1']

    async def test_search_goes_on_with_no_aaaa(self, listed):
        known = {'db.b.example': by(A=four, AAAA=six), 'db.a.example': by(A=nodata, AAAA=six)}
        *_, resolve = listed(zone(known), options='no-aaaa', search='a.example b.example')
        assert texts(await resolve('db', BOTH)) == ['192.0.2.1']

    @cases('transform, sent', {'mixing': (mix_case, 'www.example.com'), 'own function': (bytes.upper, 'WWW.EXAMPLE.COM')})
    async def test_randomize_case_0_turns_off_the_mixing_alone(self, listed, transform, sent):
        server, resolve = listed(four, options='randomize-case:0', transform_fqdn=transform)
        await resolve('www.example.com', TYPES.A)
        assert server.queries[0].name == sent

    async def test_rotate_keeps_its_order_in_all_rounds(self, nameserver):
        one, two = nameserver(silence), nameserver(silence, address='127.0.0.2')
        with system(one, two, options='rotate attempts:2') as resolve:
            for i in range(2):
                assert await result_of(resolve(f'n{i}.example', TYPES.AAAA)) is m.ResolverTimeout
        assert (one.times, two.times) == ([1000, 1001, 1002.5, 1003.5], [1000.5, 1001.5, 1002, 1003])


class TestHosts:
    """hosts(5)."""

    @cases('text, name, expected', {
        'plain': ('192.0.2.1 www.example.com', 'www.example.com', '192.0.2.1'),
        'capitals': ('192.0.2.1 WWW.example.com', 'www.EXAMPLE.com', '192.0.2.1'),
        'third name of a line': ('192.0.2.1 a b\tc # d', 'c', '192.0.2.1'),
        'name in a comment': ('192.0.2.1 a b # d', 'd', ''),
        'comment without a space': ('192.0.2.1 a#b', 'a', '192.0.2.1'),
        'line that is a comment': ('# 192.0.2.1 a', 'a', ''),
        'several lines': ('192.0.2.1\ta\r\n\n192.0.2.2 b a\r\n\n2001:db8::1 a', 'a', '192.0.2.1 192.0.2.2'),
        'final dot': ('192.0.2.1 a.', 'a', '192.0.2.1'),
        'byte order mark': ('\ufeff192.0.2.1 a', 'a', '192.0.2.1'),
        'nonsense before': ('nonsense a\n192.0.2 a\n192.0.2.7\n\n192.0.2.1 a', 'a', '192.0.2.1'),
        'bad name beside': ('192.0.2.1 a..b a', 'a', '192.0.2.1'),
        'the same three times': ('192.0.2.1 a a\n192.0.2.1 a', 'a', '192.0.2.1'),
        'address with a final dot': ('192.0.2.9. a\n192.0.2.1 a', 'a', '192.0.2.1'),
        'umlaut': ('192.0.2.1 bücher.example', 'xn--bcher-kva.example', '192.0.2.1'),
        'other family': ('2001:db8::1 a', 'a', ''),
    })  # fmt: skip
    async def test_lines_are_parsed_and_come_before_the_nameservers(self, nameserver, text, name, expected):
        server = nameserver(nxdomain)
        with files(hosts=text):
            resolve, _ = Resolver(get_nameservers=rounds(server))
            assert await result_of(resolve(name, TYPES.A)) == (expected.split() or m.NameDoesNotExist)
        assert bool(server.queries) is not bool(expected)

    async def test_other_family_is_found_with_its_scope_id_and_expires_at_once(self, listed):
        *_, resolve = listed(nodata, hosts='192.0.2.1 a\nfe80::1%lo a\n2001:db8::1 a')
        addresses = await resolve('a', TYPES.AAAA)
        assert [(str(address), address.expires_at) for address in addresses] == [('fe80::1%lo', 1000), ('2001:db8::1', 1000)]
        assert await result_of(resolve('a', TYPES.TXT)) is m.NoRecords

    @cases('hosts, four, six, both', {  # as glibc 2.36 has them
        'mapped': ('::ffff:10.0.0.15 db', '10.0.0.15', '::ffff:a00:f', '::ffff:a00:f'),
        'mapped, and an address': ('::ffff:10.0.0.15 db\n10.0.0.17 db', '10.0.0.15 10.0.0.17', '::ffff:a00:f', '10.0.0.17 ::ffff:a00:f'),
        'mapped, and the same': ('::ffff:10.0.0.15 db\n10.0.0.15 db', '10.0.0.15', '::ffff:a00:f', '10.0.0.15 ::ffff:a00:f'),
        'mapped, and IPv6': ('::ffff:10.0.0.15 db\n2001:db8::1 db', '10.0.0.15', '::ffff:a00:f 2001:db8::1', '::ffff:a00:f 2001:db8::1'),
        'mapped loopback': ('::ffff:127.0.0.2 db', '127.0.0.2', '::ffff:7f00:2', '::ffff:7f00:2'),
        'loopback': ('::1 db', '127.0.0.1', '::1', '::1'),
    })  # fmt: skip
    async def test_addresses_of_ipv6_that_stand_for_ipv4_are_as_the_c_library_has_them(self, hosts, four, six, both):
        with files(hosts=hosts):
            resolve, _ = Resolver(get_nameservers=Sets())
            for qtype, expected in ((TYPES.A, four), (TYPES.AAAA, six), (BOTH, both)):
                assert [*await resolve('db', qtype)] == [ipaddress.ip_address(text) for text in expected.split()]

    async def test_name_as_given_is_found_before_anything_is_sent(self, listed):
        server, resolve = listed(four, search='a.example', hosts='192.0.2.7 db\n192.0.2.8 web.a.example')
        assert texts(await resolve('db', TYPES.A)) == ['192.0.2.7']
        assert texts(await resolve('web', TYPES.A)) == ['192.0.2.8']
        assert server.queries == []

    async def test_special_name_is_found_first(self, clock):
        with files(hosts='192.0.2.1 localhost x.onion'):
            resolve, _ = Resolver(get_nameservers=Sets())
            assert texts(await resolve('localhost', TYPES.A)) == texts(await resolve('x.onion', TYPES.A)) == ['192.0.2.1']
            assert texts(await resolve('localhost', TYPES.AAAA)) == ['::1']

    async def test_name_that_is_written_into_the_file_comes_before_its_cached_answer(self, nameserver, hosts_file):
        server = nameserver(a('192.0.2.1', ttl=300))
        hosts_file.write_text('')
        resolve, _ = Resolver(get_nameservers=rounds(server))
        assert texts(await resolve('www.example', TYPES.A)) == ['192.0.2.1']
        hosts_file.write_text('192.0.2.7 www.example')
        await asyncio.sleep(1)
        for qtype in (TYPES.A, BOTH):
            assert texts(await resolve('www.example', qtype)) == ['192.0.2.7']
        assert len(server.queries) == 1


def silent_to(*names, **replies):
    """Replies by the label before example: none to some, and an address to those that are not given."""
    given = dict.fromkeys(names, silence) | replies
    return zone({f'{name}.example': reply for name, reply in given.items()}, otherwise=four)


async def make_fail(resolve):
    """The first nameserver, which is silent, is waited for by look-ups of two names, 0.5 s each."""
    for i in range(2):
        await resolve(f'failing{i}.example', TYPES.A)


class TestFailingNameservers:
    """A nameserver of resolv.conf is failing when it was silent to two names, for at least one timeout in all."""

    # Names of the domain example, looked up one after another, and seconds between them; which of them each nameserver is asked for.
    @cases('replies, steps, asked, ends_at, said', {
        'silent to two names': (
            [(silence, silence, silence, four), four], 'n0 n1 n2 29.9 n3 0.2 n4 n5 31 n6 n7',
            ['n0 n1 n4 n6 n7', 'n0 n1 n2 n3 n4 n5'], 1062.6, 'fails back',
        ),
        'back, with SERVFAIL': ([(silence, silence, servfail), four], 'n0 n1 31 n2 n3', ['n0 n1 n2 n3', 'n0 n1 n2 n3'], 1032, 'fails back'),
        'back, with FORMERR': ([(silence, silence, formerr), four], 'n0 n1 31 n2 n3', ['n0 n1 n2 n3', 'n0 n1 n2 n3'], 1032, 'fails back'),
        'back, but lame': ([(silence, silence, lame), four], 'n0 n1 31 n2 n3', ['n0 n1 n2 n3', 'n0 n1 n2 n3'], 1032, 'fails back'),
        'SERVFAIL to all': ([servfail, four], 'n0 n1 n2', ['n0 n1 n2', 'n0 n1 n2'], 1000, ''),
        'REFUSED to all': ([refused, four], 'n0 n1 n2', ['n0 n1 n2', 'n0 n1 n2'], 1000, ''),
        'FORMERR to all': ([formerr, four], 'n0 n1 n2', ['n0 n1 n2', 'n0 n1 n2'], 1000, ''),
        'NOTIMP to all': ([notimp, four], 'n0 n1 n2', ['n0 n1 n2', 'n0 n1 n2'], 1000, ''),
        'lame to all': ([lame, four], 'n0 n1 n2', ['n0 n1 n2', 'n0 n1 n2'], 1000, ''),
        'late answers': ([after(0.6, four), after(0.2, four)], 'n0 n1 n2', ['n0 n1 n2', 'n0 n1 n2'], 1001.8, ''),
        'late errors': ([after(0.6, servfail), after(0.2, four)], 'n0 n1 n2', ['n0 n1 n2', 'n0 n1 n2'], 1002.1, ''),
        'silent to one name': (
            [silent_to('dead'), nxdomain], 'dead 11 dead 11 dead 11 n0', ['dead dead dead n0', 'dead dead dead'], 1034.5, '',
        ),
        'silent to both types of one name': (
            [silent_to('dead'), nxdomain], 'dead:both 11 dead:both 11 n0', ['dead dead dead dead n0', 'dead dead dead dead'], 1023, '',
        ),
        'all are silent to one name': (
            [silent_to('dead'), silence], 'dead n0', ['dead dead dead dead dead n0', 'dead dead dead dead dead'], 1005, '',
        ),
        'an answer between two silences': ([silent_to('n0', 'n1', x=four), four], 'n0 x n1 n2', ['n0 x n1 n2', 'n0 n1'], 1001, ''),
        'NXDOMAIN between two silences': ([silent_to('n0', 'n1', x=nxdomain), four], 'n0 x n1 n2', ['n0 x n1 n2', 'n0 n1'], 1001, ''),
        'SERVFAIL between two silences': ([silent_to('n0', 'n1', x=servfail), four], 'n0 x n1 n2', ['n0 x n1 n2', 'n0 x n1'], 1001, ''),
        'REFUSED between two silences': ([silent_to('n0', 'n1', x=refused), four], 'n0 x n1 n2', ['n0 x n1 n2', 'n0 x n1'], 1001, ''),
        'lame between two silences': ([silent_to('n0', 'n1', x=lame), four], 'n0 x n1 n2', ['n0 x n1 n2', 'n0 x n1'], 1001, ''),
        'denials, cached until one fails': ([silence, nxdomain], 'n0 n1 n0 n1', ['n0 n1', 'n0 n1 n1'], 1001, 'fails'),
        'NXDOMAIN, cached when it is back': (
            [(silence, silence, nxdomain), nxdomain], 'n0 n1 n2 n2 31 n3 n2 n2', ['n0 n1 n3 n2', 'n0 n1 n2 n2'], 1032, 'fails back',
        ),
        'NODATA, cached when it is back': (
            [(silence, silence, nodata), nodata], 'n0 n1 n2 n2 31 n3 n2 n2', ['n0 n1 n3 n2', 'n0 n1 n2 n2'], 1032, 'fails back',
        ),
    })  # fmt: skip
    async def test_nameserver_is_asked_last_while_it_fails(self, listed, caplog, replies, steps, asked, ends_at, said):
        *servers, resolve = listed(*replies)
        for step in steps.split():
            name, _, both = step.partition(':')
            await (asyncio.sleep(float(step)) if step[0].isdigit() else result_of(resolve(f'{name}.example', BOTH if both else TYPES.A)))
        assert [' '.join(name.removesuffix('.example') for name in server.names) for server in servers] == asked
        assert (now(), [record.levelname for record in caplog.records]) == (pytest.approx(ends_at), ['WARNING'] * len(said.split()))
        assert ['is back' in message for message in caplog.messages] == [each == 'back' for each in said.split()]

    async def test_silence_to_a_name_counts_though_another_query_of_its_type_is_answered(self, nameserver, caplog):
        replies = (silence, four, silence), (silence,), (four,)
        one, two, three = (nameserver(*given, address=f'127.0.0.{i}') for i, given in enumerate(replies, 1))
        with system(one, two, three):
            resolve, clear_cache = Resolver()
            (before,) = start(resolve('x.example', TYPES.A))
            await asyncio.sleep(0.1)
            clear_cache()  # so that the next one does not join it
            await resolve('x.example', TYPES.A)
            await before
            await resolve('y.example', TYPES.A)
        assert [message.split()[1] for message in caplog.messages] == [two.text]

    def test_failing_nameserver_is_asked_last_until_one_query_probes_it(self):
        one, two, failing = m.to_nameserver('192.0.2.1', 53), m.to_nameserver('192.0.2.2', 53), m.FailingNameservers()
        assert [failing.waited(one, name, 9, 10, 0.5) for name in (b'a', b'b', b'c')] == [False, True, False]  # then it fails already
        assert failing.choose([one, two], 39.9) == two
        assert failing.choose([one, two], 40) == one  # tried again
        assert failing.choose([one, two], 40) == two  # but by one
        assert failing.choose([two, one], 71) == two  # not by one that asks another first
        assert failing.choose([one, two], 71) == one
        assert [failing.waited(two, name, 72, 73, 0.5) for name in (b'a', b'b')] == [False, True]
        assert (failing.choose([one, two], 73), failing.choose([two, one], 73)) == (one, two)  # all fail: in their order
        assert failing.retry_at == {one: 101, two: 103}

    @cases('names, waits, is_failing', {  # of 2 s in all
        'one after another': ('ab', [(0, 1), (2, 3)], True),
        'less': ('ab', [(0, 1), (2, 2.9)], False),
        'at the same time': ('ab', [(0, 1.9), (0, 1.9)], False),
        'one within the other': ('ab', [(0, 1.9), (0.5, 1)], False),
        'one within the other, told first': ('ab', [(0.5, 1), (0, 2)], True),
        'that overlap': ('ab', [(0, 1.4), (1, 2)], True),
        'that overlap less': ('ab', [(0, 1.4), (1, 1.9)], False),
        'two at a time, and again later': ('abcd', [(0, 0.7), (0, 0.7), (5, 5.7), (5, 5.7)], True),
        'three, to one name': ('aaa', [(0, 1), (2, 3), (4, 5)], False),
        'three, the last to the first name': ('aba', [(0, 0.5), (1, 1.5), (2, 3)], True),
    })  # fmt: skip
    def test_waits_for_a_nameserver_count_up_to_the_time_since_the_first(self, names, waits, is_failing):
        nameserver, failing = m.to_nameserver('192.0.2.1', 53), m.FailingNameservers()
        for name, (since, until) in zip(names, waits, strict=True):
            failing.waited(nameserver, name.encode(), since, until, 2)
        assert (nameserver in failing.retry_at) is is_failing

    async def test_look_up_cancelled_while_it_waited_for_its_turn_is_no_probe(self, listed):
        *_, resolve = listed(silent_to('failing0', 'failing1'), after(0.4, a('192.0.2.2')), max_sockets=1)
        await make_fail(resolve)
        await asyncio.sleep(29.5)  # in 0.1 s it is tried again
        busy, gone = start(*(resolve(name, TYPES.A) for name in ('busy.example', 'gone.example')))
        await asyncio.sleep(0.3)
        await end(gone)
        assert texts(await resolve('new.example', TYPES.A)) == ['192.0.2.1']
        assert texts(await busy) == ['192.0.2.2']

    async def test_several_retries_are_made_by_one_query_each(self, listed):
        one, two, _, resolve = listed(silence, silence, four)
        await make_fail(resolve)  # each of the two is waited for twice, for 2 s in all
        await asyncio.sleep(31)
        assert await results_of(resolve, 50) == [['192.0.2.1']] * 50
        assert (one.names[2:], two.names[2:], now()) == (['n0.example'], ['n1.example'], 1033.5)

    async def test_waiting_look_ups_ask_by_what_is_known_at_their_turn(self, listed):
        one, _, resolve = listed(silence, four, max_sockets=10)
        assert await results_of(resolve, 500) == [['192.0.2.1']] * 500
        assert (now(), len(one.queries)) == (1000.5, 10)

    async def test_nameserver_whose_socket_cannot_be_connected_is_not_remembered(self, nameserver, caplog):
        with files(hosts='', resolv_conf='nameserver fe80::1%nowhere\nnameserver 127.0.0.1'), at_their_ports(nameserver(four)):
            await ask_in_turn(Resolver()[0], 2)
        assert (now(), caplog.messages) == (1000, [])

    @cases('name, known', {
        'alias': ('www.example', {'www.example': alias('b.example'), 'b.example': '192.0.2.2'}),
        'candidate of the search list': ('www', {'www.example': '192.0.2.2'}),
    })  # fmt: skip
    async def test_silence_to_an_alias_or_candidate_is_that_to_the_name_given(self, listed, caplog, name, known):
        one, _, resolve = listed(silence, zone(known), search='test example')
        assert texts(await resolve(name, TYPES.A)) == ['192.0.2.2']
        assert (now(), len(one.queries), caplog.messages) == (1001, 2, [])
        assert await result_of(resolve('other.example', TYPES.TXT)) is m.NameDoesNotExist  # a second name
        assert len(caplog.messages) == 1

    @pytest.mark.parametrize('given', [servfail, refused, formerr, notimp, lame, truncated_and_empty])
    @pytest.mark.parametrize('count', [1, 2])
    async def test_nameserver_with_error_replies_is_asked_twice(self, listed, given, count):
        *servers, resolve = listed(*[given] * count)
        with pytest.raises(m.ResolverError, match='does not fit' if given is truncated_and_empty else r'\(2 times\)'):
            await resolve('www.example.com', TYPES.A)
        assert [len(server.queries) for server in servers] == [2] * count

    async def test_silent_nameserver_is_asked_until_its_second_error_reply(self, listed):
        server, resolve = listed((silence, servfail, silence, four))
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert len(server.queries) == 4

    @cases('options, every, patience, failed', {
        '0.4 s of 0.5': ('', 0.06, 0.4, 9),  # found out at 0.52 s, when the third leaves
        '1.5 s of 2': ('timeout:2', 0.28, 1.5, 8),  # at 2.06 s, when the third leaves
        '0.4 s of 0.5, one at a time': ('', 1, 0.4, 2),  # at 1.4 s
        '0.1 s of 0.5, one at a time': ('', 1, 0.11, 5),  # at 4.11 s
    })  # fmt: skip
    async def test_callers_who_give_up_early_find_a_dead_nameserver_out(self, listed, options, every, patience, failed):
        *_, resolve = listed(silence, after(0.1, four), options=options)
        assert await failed_callers(resolve, 20, every, patience) == list(range(failed))

    async def test_retry_that_is_cancelled_leaves_the_nameserver_last(self, listed):
        one, _, resolve = listed(silence, four)
        await make_fail(resolve)
        await asyncio.sleep(31)
        assert await failed_callers(resolve, count=10, every=0.1, patience=0.4) == [0]
        assert one.names[2:] == ['n0.example']

    @cases('code', {'refused': errno.ECONNREFUSED, 'no network': errno.ENETUNREACH, 'no memory': errno.ENOMEM})
    async def test_nameserver_that_cannot_be_reached_is_not_remembered(self, listed, fake_sockets, caplog, code):
        fails = True
        fake_sockets(sending=raises(code, lambda sock: fails and sock.getpeername()[0] == '127.0.0.1'))
        *_, resolve = listed(a('10.0.0.1'), nxdomain)
        assert [await result_of(resolve(f'n{i}.example', TYPES.A)) for i in range(3)] == [m.NameDoesNotExist] * 3
        fails = False
        assert texts(await resolve('db.inside', TYPES.A)) == ['10.0.0.1']
        assert (now(), caplog.messages) == (1000, [])

    async def test_closed_port_is_asked_first_each_time(self, listed, fake_sockets, caplog):
        asked = []
        fake_sockets(sending=lambda sock: asked.append(sock.getpeername()))
        closed, good, resolve = listed((), four)
        await ask_in_turn(resolve, 4)
        assert (asked, now(), caplog.messages) == ([closed.at, good.at] * 4, 1000, [])

    async def test_names_asked_before_the_last_reply_do_not_count(self, listed):
        *_, resolve = listed(zone({'n0.example': silence, 'n1.example': silence}, otherwise=a('192.0.2.1')), a('192.0.2.2'))
        tasks = start(resolve('n0.example', TYPES.A), resolve('n1.example', TYPES.A))
        await asyncio.sleep(0.4)
        assert texts(await resolve('www.example', TYPES.A)) == ['192.0.2.1']
        assert [texts(found) for found in await asyncio.gather(*tasks)] == [['192.0.2.2']] * 2
        assert texts(await resolve('n2.example', TYPES.A)) == ['192.0.2.1']

    async def test_query_that_is_not_sent_in_its_set_is_no_wait(self, listed, fake_sockets):
        fake_sockets(receiving=raises(errno.EHOSTUNREACH, lambda data: data == b'unreachable'))
        at_the_deadline = after(0.5 - 1e-10, lambda _: b'unreachable')  # the other type would be asked when this is read
        one, _, resolve = listed((at_the_deadline, silence), by(A=four, AAAA=six), max_sockets=1)
        assert await result_of(resolve('both.example', BOTH)) == ['192.0.2.1', '2001:db8::1']
        await ask_in_turn(resolve, 3)
        assert one.names == ['both.example', 'n0.example', 'n1.example']

    async def test_silence_to_an_edns_query_is_no_fault_of_a_nameserver(self, listed, caplog):  # which may not pass on the way
        *_, resolve = listed((truncated_and_empty, truncated_and_empty, silence), four)
        assert await results_of(resolve, 2) == [['192.0.2.1']] * 2
        assert (now(), caplog.messages) == (1000.5, [])

    @cases('ttl, qtypes', {
        'both families at once': (20, [BOTH]), 'both, and A is not cached': (0, [BOTH]),
        'A is cached': (20, [TYPES.A, BOTH]), 'A is cached, AAAA alone': (20, [TYPES.A, TYPES.AAAA]),
    })  # fmt: skip
    async def test_silence_to_one_type_beside_an_answer_is_no_fault_of_a_nameserver(self, listed, caplog, ttl, qtypes):
        *_, resolve = listed(by(A=a('192.0.2.1', ttl=ttl), AAAA=silence), by(A=a('192.0.2.2'), AAAA=silence))
        for qtype in qtypes:
            for i in range(3):
                await result_of(resolve(f'n{i}.example', qtype))
        assert texts(await resolve('last.example', TYPES.A)) == ['192.0.2.1']
        assert caplog.messages == []

    async def test_nameservers_of_a_hook_keep_their_order(self, nameserver, caplog):
        one, two = nameserver(silence), nameserver(nxdomain)
        resolve, _ = resolver_for(one, two)
        for i in (0, 1, 2, 0, 1, 2):  # and what they deny is cached
            assert await result_of(resolve(f'n{i}.example', TYPES.A)) is m.NameDoesNotExist
        assert (len(one.queries), len(two.queries), caplog.messages) == (3, 3, [])

    @cases('conf, ends_at', {
        'another nameserver more': ('nameserver 127.0.0.1\nnameserver 127.0.0.2\nnameserver 127.0.0.3', 1002.5),
        'an option': ('nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions rotate:no', 1002),
    })  # fmt: skip
    async def test_failure_is_forgotten_when_resolv_conf_names_others(self, nameserver, resolv_conf, conf, ends_at):
        resolv_conf.write_text('nameserver 127.0.0.1\nnameserver 127.0.0.2')
        with at_their_ports(nameserver(silence), nameserver(four, address='127.0.0.2')):
            resolve, _ = Resolver(no_host)
            await make_fail(resolve)
            resolv_conf.write_text(conf)
            await asyncio.sleep(1)
            await resolve('www.example', TYPES.A)
        assert now() == ends_at

    async def test_denials_are_cached_again_though_a_nameserver_was_not_needed_since_it_failed(self, nameserver):
        one, two = nameserver(silence), nameserver(silence, address='127.0.0.2')
        with system(one, two) as resolve:
            assert await results_of(resolve, 2) == [m.ResolverTimeout] * 2
            one.replies[:] = [nxdomain]
            for pause, count in ((20, 2), (6, 1)):
                await asyncio.sleep(pause)
                one.queries.clear()
                for _ in range(2):
                    assert await result_of(resolve('gone.example', TYPES.A)) is m.NameDoesNotExist
                assert len(one.queries) == count

    async def test_silence_to_what_was_asked_before_resolv_conf_changed_says_nothing(self, nameserver, resolv_conf, caplog):
        one, two = nameserver(silence), nameserver(four, address='127.0.0.2')
        resolv_conf.write_text('nameserver 127.0.0.1')
        with at_their_ports(one, two):
            resolve, _ = Resolver(no_host)
            await resolve('localhost', TYPES.A)
            await asyncio.sleep(0.9)
            before = start(*(resolve(f'{name}.example', TYPES.A) for name in 'ab'))
            await asyncio.sleep(0.1)
            resolv_conf.write_text('nameserver 127.0.0.1\nnameserver 127.0.0.2')
            assert texts(await resolve('c.example', TYPES.A)) == ['192.0.2.1']
            await asyncio.gather(*before, return_exceptions=True)
        assert [record for record in caplog.records if record.levelname == 'WARNING'] == []

    async def test_silence_to_one_name_is_forgotten_when_resolv_conf_names_others(self, nameserver, resolv_conf, caplog):
        one, two = nameserver(silence), nameserver(a('192.0.2.1'), address='127.0.0.2')
        with at_their_ports(one, two):
            resolve, _ = Resolver(no_host)
            for i, more in enumerate(('', 'nameserver 127.0.0.3')):
                resolv_conf.write_text(f'nameserver 127.0.0.1\nnameserver 127.0.0.2\n{more}')
                await asyncio.sleep(1)
                await resolve(f'n{i}.example', TYPES.A)
        assert (len(one.queries), caplog.messages) == (2, [])


class TestRecvfrom:
    """`recvfrom`, which existing code imports."""

    @pytest.fixture
    def pairs(self):
        """Pairs of sockets, of which the first receives what the second sends."""
        pairs = [udp_pair() for _ in range(3)]
        yield pairs
        for sock in itertools.chain(*pairs):
            sock.close()

    async def begun(self, receivers):
        """A task in which `recvfrom` waits."""
        (waiting,) = start(m.recvfrom(asyncio.get_running_loop(), receivers, 512))
        await asyncio.sleep(0)
        return waiting

    @in_each_loop
    def test_first_datagram_is_returned_and_no_reader_is_left(self, pairs, loop_factory):
        receivers, senders = zip(*pairs, strict=True)

        async def scenario():
            loop = asyncio.get_running_loop()
            waiting = await self.begun(receivers)
            senders[1].send(b'first')
            assert await waiting == (b'first', senders[1].getsockname())
            (cancelled,) = await end(await self.begun(receivers))
            assert isinstance(cancelled, asyncio.CancelledError)
            assert not any(loop.remove_reader(receiver.fileno()) for receiver in receivers)
            senders[2].send(b'not lost')
            assert (await m.recvfrom(loop, receivers, 3))[0] == b'not'
            for sender in senders[:2]:
                sender.send(b'at the same time')
            for _ in range(2):
                assert (await m.recvfrom(loop, receivers, 512))[0] == b'at the same time'

        run(scenario(), loop_factory)

    async def test_first_datagram_is_returned_whatever_the_order_of_the_sockets(self, pairs):
        (one, to_one), (other, to_other), _ = pairs
        waiting = await self.begun(iter([one, other]))
        to_other.send(b'first')
        to_one.send(b'second')
        assert (await waiting)[0] == b'first'

    async def test_datagram_that_comes_with_a_cancellation_is_not_lost(self, pairs):
        (receiver, sender), loop = pairs[0], asyncio.get_running_loop()
        waiting = await self.begun([receiver])
        sender.send(b'one')
        loop.call_soon(loop.call_soon, waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await m.recvfrom(loop, [receiver], 512))[0] == b'one'

    async def test_nothing_to_read_after_all_means_waiting_on(self, pairs):
        receiver, sender = pairs[0]
        sender.send(b'one')
        with unittest.mock.patch.object(socket.socket, 'recvfrom', side_effect=[BlockingIOError, (b'one', None)]) as read:
            assert (await m.recvfrom(asyncio.get_running_loop(), [receiver], 512))[0] == b'one'
        assert read.call_count == 2  # first a wrong checksum, or another reader was quicker

    async def test_closed_socket_leaves_no_reader_of_the_others(self, pairs):
        closed, other, _ = [receiver for receiver, _ in pairs]
        waiting = await self.begun([closed, other])
        closed.close()
        await end(waiting)
        assert waiting.cancelled()
        assert not asyncio.get_running_loop().remove_reader(other.fileno())

    async def test_error_of_a_socket_is_raised(self, pairs):
        receiver, sender = pairs[0]
        receiver.close()
        sender.setblocking(False)
        sender.send(b'x')
        with pytest.raises(ConnectionRefusedError):
            await m.recvfrom(asyncio.get_running_loop(), [sender], 512)


class WithoutReaders(asyncio.SelectorEventLoop):
    def add_reader(self, *_):
        raise NotImplementedError('add_reader')


with_epoll_and_without = cases('new_epoll', {'epoll': m.new_epoll, 'no epoll': None})


class TestPoller:
    """What the loop knows of the sockets."""

    @with_epoll_and_without
    @in_each_loop
    def test_look_ups_leave_nothing_in_the_loop(self, monkeypatch, loop_factory, new_epoll):
        monkeypatch.setattr(m, 'new_epoll', new_epoll)
        gc.collect()

        async def scenario():
            descriptors = descriptors_now()
            server, silent = Scripted('127.0.0.1', [first_then(wrong_case, a('192.0.2.1'))]), Scripted('127.0.0.1', [silence])
            resolve = asking((0.1, silent.at), (0.1, server.at))
            assert await results_of(resolve, 20) == [['192.0.2.1']] * 20
            server.close()
            silent.close()
            await asyncio.sleep(0.25)
            assert descriptors_now() == descriptors

        run(scenario(), loop_factory)

    @contextlib.asynccontextmanager
    async def nothing_left_after(self, seconds):
        loop = asyncio.get_running_loop()
        readers = readers_of(loop)
        yield
        await asyncio.sleep(seconds)
        assert (readers_of(loop), timers_of(loop)) == (readers, [])

    async def test_poller_and_timer_end_one_timeout_after_the_last_look_up(self, nameserver):
        loop = asyncio.get_running_loop()
        resolve, _ = resolver_for(nameserver(a('192.0.2.1', ttl=3600)))
        readers = readers_of(loop)
        async with self.nothing_left_after(0.1):
            for i in range(2):
                await resolve(f'n{i}.example', TYPES.A)  # what is cached has no timer
                await asyncio.sleep(0.2)
            assert (len(readers_of(loop) - readers), len(timers_of(loop))) == (1, 1)

    async def test_late_deadline_is_not_put_off_by_the_next_look_up(self, clock, nameserver):
        resolve, ended_at = asking((0.5, nameserver(silence).at)), []
        tasks = []
        for name in ('first.example', 'second.example'):
            tasks += start(result_of(resolve(name, TYPES.A)))
            tasks[-1].add_done_callback(lambda _: ended_at.append(now()))
            await asyncio.sleep(0)
        clock.now += 0.6  # a long step: the second query is sent before the timer of the first is called
        assert await asyncio.gather(*tasks) == [m.ResolverTimeout] * 2
        assert ended_at == [1000.6, 1001.1]

    async def test_timer_that_is_called_early_is_believed(self, nameserver, monkeypatch):
        loop = asyncio.get_running_loop()
        call_at = loop.call_at
        monkeypatch.setattr(loop, 'call_at', lambda when, *args, **options: call_at(now() + (when - now()) / 100, *args, **options))
        assert await result_of(asking(*[(1, nameserver(silence).at)] * 5)('www.example.com', TYPES.A)) is m.ResolverTimeout
        assert now() == pytest.approx(1000.05)

    @pytest.fixture
    def called_at(self, monkeypatch):
        """When the timer of the poller is called."""
        times, expire = [], m.Poller.expire
        monkeypatch.setattr(m.Poller, 'expire', lambda poller: (times.append(now()), expire(poller)))
        return times

    async def test_timer_is_not_called_again_and_again_while_a_socket_is_open(self, nameserver, called_at):
        assert await result_of(asking((0, nameserver(after(1, four)).at), 2)('db.example', TYPES.A)) == ['192.0.2.1']
        assert called_at == [1000]

    async def test_timer_is_called_at_the_earliest_deadline_each_time(self, nameserver, called_at):
        server = nameserver(silence)
        resolve = asking(**{f'n{i}': [(timeout, server.at)] for i, timeout in enumerate((5, 9, 2, 7))})
        assert await results_of(resolve, 4) == [m.ResolverTimeout] * 4
        assert called_at == [1002, 1005, 1007, 1009]

    async def test_flood_at_a_socket_is_read_in_portions(self, nameserver, monkeypatch, fake_sockets):
        portions, dispatch = [], m.Poller.dispatch
        fake_sockets(receiving=lambda data: portions[-1].append(data))
        monkeypatch.setattr(m.Poller, 'dispatch', lambda poller: (portions.append([]), dispatch(poller)))
        resolve = asking((1, nameserver(lambda query: [*[b'junk'] * 100, four(query)]).at))
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert [len(portion) for portion in portions] == [32, 32, 32, 5]

    @cases('dispatch', {'by epoll': m.Poller.dispatch, 'at the deadline': lambda _: None})
    async def test_last_datagram_of_a_portion_is_the_answer(self, clock, nameserver, monkeypatch, dispatch):
        monkeypatch.setattr(m.Poller, 'dispatch', dispatch)
        server = nameserver(silence)
        resolve = asking((1, server.at))
        first, second = start(*(result_of(resolve(f'{name}.example', TYPES.A)) for name in ('first', 'second')))
        await steps(3)
        for reply in [*[lambda _: b'junk'] * (m.MAX_READS - 1), four]:
            server.send_at_once(reply)
        clock.now += 1  # so that `check` reads what has arrived, where epoll does not
        assert (await first, await asyncio.wait_for(second, 5)) == (['192.0.2.1'], m.ResolverTimeout)

    async def test_socket_held_open_by_a_fork_is_reported_once_at_most(self, nameserver, monkeypatch, fake_sockets):
        epoll, held = FakeEpoll(), []
        monkeypatch.setattr(m, 'new_epoll', lambda: epoll)
        fake_sockets(closing=lambda sock: held.append(os.dup(sock.fileno())))  # as a fork has it
        await asking((1, nameserver(lambda query: [four(query), 0.1, four(query)]).at))('www.example.com', TYPES.A)
        await asyncio.sleep(0.3)
        assert epoll.polls in ([0], [0, 0])  # none of which waits
        for fd in held:
            os.close(fd)
        await asyncio.sleep(2)
        epoll.close()

    @cases('new_epoll, says', {
        'it cannot watch': (lambda: FakeEpoll(registering=raises(errno.ENOSPC)), 'No space left on device'),
        'no descriptor for it': (lambda: raises(errno.EMFILE)(None), 'Too many open files'),
    })  # fmt: skip
    async def test_epoll_that_fails_is_an_error_and_is_not_left_in_the_loop(self, clock, monkeypatch, new_epoll, says):
        monkeypatch.setattr(m, 'new_epoll', new_epoll)
        async with self.nothing_left_after(1):
            with pytest.raises(m.NameserverUnreachable, match=says):
                await asking((1, ('127.0.0.1', 9)))('www.example.com', TYPES.A)

    @with_epoll_and_without
    def test_loop_without_add_reader_is_an_error_with_a_hint(self, monkeypatch, caplog, new_epoll):
        monkeypatch.setattr(m, 'new_epoll', new_epoll)

        async def scenario():
            descriptors = descriptors_now()
            with pytest.raises(m.ResolverError, match=r'www.example.com A: 127.0.0.1:53 cannot be asked.*no add_reader.*uvloop') as caught:
                await asking((1, ('127.0.0.1', 53)))('www.example.com', TYPES.A)
            assert isinstance(caught.value.__cause__, NotImplementedError)
            with pytest.raises(m.ResolverError, match='no add_reader'):
                await Resolver()[0]('www.example.com', TYPES.A)
            assert not caplog.messages  # that a nameserver fails
            assert descriptors_now() == descriptors

        run(scenario(), WithoutReaders)

    @cases('number', {'first': 0, 'one in the middle': 2, 'last': 4})
    @cases('in_recv', {'in recv': True, 'in a logging handler': False})
    def test_interrupt_while_one_socket_is_read_leaves_the_others_watched(self, fake_sockets, in_recv, number):
        async def begin():
            server = Scripted('127.0.0.1', [after(0.1, four)])
            resolve = asking(*[(5, server.at)] * 2)
            return server, start(*(resolve(f'n{i}.example', TYPES.A) for i in range(5)))

        loop, effects = asyncio.new_event_loop(), [None] * 5
        clock = Clock(loop)
        effects[number] = KeyboardInterrupt if in_recv else None
        fake_sockets(receiving=unittest.mock.Mock(side_effect=effects))
        server, tasks = loop.run_until_complete(begin())
        loop.run_until_complete(asyncio.sleep(0.05))  # all are sent
        with contextlib.nullcontext() if in_recv else handler_that_raises(f'n{number}.example A: ', 1, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(asyncio.sleep(1))
        assert clock.now == pytest.approx(1000.1)
        loop.run_until_complete(asyncio.sleep(0.1))
        assert sum(task.done() and not task.exception() for task in tasks) >= 4
        loop.run_until_complete(end(*tasks))
        server.close()
        loop.close()

    def test_interrupt_at_the_timeout_of_one_look_up_leaves_the_others_theirs(self):
        async def begin():
            servers = [Scripted('127.0.0.1', [reply]) for reply in (silence, four)]
            resolve = asking(*((0.5, server.at) for server in servers))
            return servers, start(*(resolve(f'n{i}.example', TYPES.A) for i in range(3)))

        loop = asyncio.new_event_loop()
        Clock(loop)
        servers, tasks = loop.run_until_complete(begin())
        with handler_that_raises('n1.example A: ', 1, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(1))
        others = loop.run_until_complete(asyncio.wait_for(asyncio.gather(tasks[0], tasks[2]), 1))
        loop.run_until_complete(end(*tasks))
        for server in servers:
            server.close()
        loop.close()
        assert [texts(addresses) for addresses in others] == [['192.0.2.1']] * 2

    @cases('timeouts, first, wait', {
        'the long one first': ((3600, 0.05), four, 0.06),
        'the long one first, and cancelled': ((3600, 0.05), silence, 0.06),
        'the long one last': ((0.05, 3600), four, 3600.1),
    })  # fmt: skip
    async def test_nothing_is_left_in_the_loop_one_timeout_after_the_last_look_up(self, nameserver, timeouts, first, wait):
        replies = zip(timeouts, (first, four), strict=True)
        resolve = asking(**{f'n{i}': [(timeout, nameserver(reply).at)] for i, (timeout, reply) in enumerate(replies)})
        async with self.nothing_left_after(wait):
            for i in range(2):
                await within(1, resolve(f'n{i}.example', TYPES.A))

    async def test_nothing_is_left_in_the_loop_after_a_look_up_beside_a_longer_one(self, nameserver):
        server, slow = nameserver(after(0.1, four)), nameserver(after(0.2, four), silence)
        resolve = asking((3600, server.at), short=[(0.05, slow.at)] * 9)
        async with self.nothing_left_after(0.06):
            await asyncio.gather(*(resolve(f'{name}.example', TYPES.A) for name in ('long', 'short')))
            assert now() == pytest.approx(1000.2)

    async def test_call_at_that_is_patched_later_is_used(self, nameserver, monkeypatch):
        loop, resolve = asyncio.get_running_loop(), asking(*[(1, nameserver(silence).at)] * 5)
        assert await result_of(resolve('before.example', TYPES.A)) is m.ResolverTimeout
        call_at = loop.call_at
        monkeypatch.setattr(loop, 'call_at', lambda when, *args, **options: call_at(now() + (when - now()) / 100, *args, **options))
        assert await result_of(resolve('www.example.com', TYPES.A)) is m.ResolverTimeout
        assert now() == pytest.approx(1005.05)


class TestSockets:
    """The limit: at most `max_sockets` are open at once."""

    @pytest.mark.parametrize('max_sockets', [1, 2, 7])
    async def test_sockets_never_exceed_the_limit(self, nameserver, fake_sockets, max_sockets):
        sockets = fake_sockets()
        resolve, _ = resolver_for(nameserver(silence), nameserver(a('192.0.2.1')), max_sockets=max_sockets)
        assert await results_of(resolve, 20) == [['192.0.2.1']] * 20
        assert max(sockets.counts) == max_sockets

    async def test_thousands_of_look_ups_time_out_in_turn(self, nameserver, fake_sockets):
        sockets, server = fake_sockets(), nameserver(silence)
        assert await results_of(asking((1, server.at)), 5000) == [m.ResolverTimeout] * 5000
        assert [(query.name.lower(), query.time) for query in server.queries] == [(f'n{i}.example', 1000 + i // 256) for i in range(5000)]
        assert (now(), len(sockets.counts), max(sockets.counts)) == (1020, 5000, 256)

    async def test_look_up_that_begins_does_not_overtake_one_that_may_begin(self, nameserver):
        server = nameserver(after(0.1, four))
        resolve = asking((1, server.at), max_sockets=1)
        await asyncio.gather(ask_in_turn(resolve, 2), resolve('other.example', TYPES.A))
        assert server.names == ['n0.example', 'other.example', 'n1.example']

    async def test_cancelled_look_up_keeps_no_turn(self, nameserver):
        resolve, _ = resolver_for(nameserver(after(0.1, four)), max_sockets=1)
        first, second = start(*(resolve(name, TYPES.A) for name in ('a.example', 'b.example')))
        await asyncio.sleep(0.05)
        second.cancel()
        await resolve('c.example', TYPES.A)
        assert (now(), texts(await first), second.cancelled()) == (pytest.approx(1000.2), ['192.0.2.1'], True)

    async def test_hook_is_not_called_while_what_is_queued_needs_the_room(self, nameserver):
        silent, good = nameserver(silence), nameserver(four)
        sets = Sets((1, silent.at), pair=[(1, silent.at, good.at)], last=[(1, good.at)])
        resolve, _ = Resolver(no_host, sets, max_sockets=2)
        results = await asyncio.gather(*(result_of(resolve(f'{name}.example', TYPES.A)) for name in ('first', 'pair', 'last')))
        assert results == [m.ResolverTimeout, ['192.0.2.1'], ['192.0.2.1']]
        assert sets.called_at == [1000, 1000, 1001]

    async def test_hook_is_not_called_while_a_look_up_under_way_needs_the_room(self, nameserver):
        silent, good = nameserver(silence), nameserver(four)
        sets = Sets((1, good.at), first=[(0.1, silent.at), 0.1, (1, good.at)], second=[(1, silent.at)])
        resolve, _ = Resolver(no_host, sets, max_sockets=1)
        tasks = start(*(result_of(resolve(f'{name}.example', TYPES.A)) for name in ('first', 'second')))
        await asyncio.sleep(0.3)  # the second has the socket, and the first waits for it
        await resolve('third.example', TYPES.A)
        assert sets.called_at == pytest.approx([1000, 1000.1, 1001.1])
        assert await asyncio.gather(*tasks) == [['192.0.2.1'], m.ResolverTimeout]

    @cases('name, sent', {
        'an alias': ('www.example', ['www.example', 'other.example']),
        'the search list': ('www', ['www.a.example', 'www.b.example']),
    })  # fmt: skip
    async def test_next_name_of_a_look_up_comes_before_those_that_begin(self, listed, name, sent):
        known = {'www.example': alias('other.example'), 'www.a.example': nxdomain}
        server, resolve = listed(after(0.1, zone(known, otherwise=four)), search='a.example b.example', max_sockets=1)
        await asyncio.gather(*(resolve(each, TYPES.A) for each in (name, 'one.example', 'two.example')))
        assert server.names == [*sent, 'one.example', 'two.example']

    async def test_alias_from_the_cache_is_no_place_in_the_queue(self, nameserver):
        known = {f'{name}.example': alias(f'{name}-end.example', ttl=1000) for name in ('one', 'two')}
        resolve = asking((1, nameserver(after(0.01, zone(known, otherwise=a('192.0.2.1', ttl=0)))).at), max_sockets=1)

        async def look_up_again_and_again(name):
            while True:
                await resolve(name, TYPES.A)

        await asyncio.gather(*(resolve(name, TYPES.A) for name in known))
        tasks = start(*map(look_up_again_and_again, known))
        await asyncio.sleep(0.1)
        await asyncio.wait_for(resolve('www.example', TYPES.A), 0.1)
        await end(*tasks)

    async def test_queries_of_one_step_leave_together_but_for_the_first(self, nameserver, fake_sockets):
        sent = []
        fake_sockets(sending=lambda sock: sent.append(sock.getpeername()))  # an error where it is closed
        one, two = nameserver(silence), nameserver(silence)
        resolve = asking((1, one.at, two.at))
        first, gone, third = (resolve(name, TYPES.A) for name in 'abc')
        for coroutine in (first, gone, third):
            coroutine.send(None)
        assert sent == [one.at, two.at]
        gone.close()
        await asyncio.sleep(0)
        assert sent == [one.at, two.at] * 2
        await asyncio.sleep(0.1)
        assert one.names == two.names == ['a', 'c']  # and none for the one that has gone meanwhile
        first.close()
        third.close()
        await asyncio.sleep(1)

    @cases('socket_type', {'by its type': m.SOCKET_TYPE, 'by setblocking': socket.SOCK_DGRAM})
    async def test_socket_is_non_blocking_on_every_system(self, resolving, monkeypatch, fake_sockets, socket_type):
        monkeypatch.setattr(m, 'SOCKET_TYPE', socket_type)
        blocking = []
        fake_sockets(sending=lambda sock: blocking.append(sock.getblocking()))
        _, resolve = resolving(after(0.1, four))
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert blocking == [False]

    async def test_look_up_closed_before_the_end_of_a_set_that_cannot_be_sent_leaves_nothing(self, clock):
        look_up = asking((1, ('fe80::1%nowhere', 53)))('www.example', TYPES.A)
        look_up.send(None)
        look_up.close()
        await asyncio.sleep(0)


def found_with_descriptors(address, limit, name, count, left=1024):
    """How many names a process with a limit of descriptors finds at once, and all addresses, if it has no more than so many left."""
    code = f"""
async def main():
    resolve, _ = Resolver(get_nameservers=get_nameservers)
    while len(os.listdir('/proc/self/fd')) < {limit} - {left}:
        os.dup(0)
    results = await asyncio.gather(*(resolve({name!r}.format(i), TYPES.A) for i in range({count})))
    print(len(results), {{str(address) for result in results for address in result}})
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
asyncio.run(main())
"""
    return output_of(address, code)


FOUND, TIMEOUT = ['192.0.2.1'], m.ResolverTimeout


class TestShortages:
    """There are few sockets: by `max_sockets`, or since the system has no descriptor or no buffer to send."""

    # Replies by nameserver. Look-ups: when one begins; sets, of a timeout and numbers of nameservers, or a pause; what it gives, and when.
    @cases('few, replies, look_ups, asked_at', {
        'first of a set larger than the limit': (
            {'max_sockets': 2}, [silence, silence, four], [(0, [(1, 0, 1, 2)], TIMEOUT, 1)], [[0], [0], []],
        ),
        'first of a set that is larger, in place of what is late': (
            {'max_sockets': 2}, [silence, four, silence, after(9, four)],
            [(0, [(10, 3)], FOUND, 9), (0, [(0.5, 0), (0.5, 1, 2)], FOUND, 0.5)], [[0], [0.5], [], [0]],
        ),
        'rest of a set, as soon as a socket is free': (
            {'max_sockets': 3}, [servfail, silence, silence, four, silence], [(0, [(1, 0, 1, 2, 3, 4)], FOUND, 0)], [[0]] * 4 + [[]],
        ),
        'rest of a set, when its first are out': (
            {'max_sockets': 2}, [silence, refused, four],
            [(0, [(9, 0), (0.5, 1, 2)], FOUND, 9), (0.1, [(0.5, 0), (0.5, 1, 2)], FOUND, 0.6)], [[0, 0.1], [0.6, 9], [0.6, 9]],
        ),
        'rest of a set has a whole timeout': (
            {'max_sockets': 1}, [after(0.9, refused), after(0.8, four)], [(0, [(1, 0, 1)], FOUND, 1.7)], [[0], [0.9]],
        ),
        'places of a set that is out are for others': (
            {'max_sockets': 2}, [refused, silence, four], [(0, [(1, 0, 0), (10, 1)], TIMEOUT, 10), (0.1, [(1, 2)], FOUND, 0.1)],
            [[0, 0], [0], [0.1]],
        ),
        'set waits until it fits as a whole': (
            {'max_sockets': 3}, [after(0.1, servfail), after(0.2, four)],
            [(0, [(1, 0, 1)], FOUND, ends_at) for ends_at in (0.2, 0.3, 0.4, 0.5)], [[0, 0.1, 0.2, 0.3]] * 2,
        ),
        'retries leave half of the sockets to others': (  # each of the first three has sent its query twice, over one socket
            {'max_sockets': 6}, [silence, after(0.9, four), four],
            [*[(0, [(0.5, 0)] * 3, TIMEOUT, 1.5)] * 2, (0, [(0.5, 1)] * 5, FOUND, 0.9), *[(0.6, [(0.5, 2)], FOUND, 0.6)] * 3],
            [[0, 0, 0.5, 0.5, 1, 1], [0, 0.5], [0.6, 0.6, 0.6]],
        ),
        'oldest late socket of those in a hook is the first to go': (
            {'max_sockets': 2}, [after(2.1, four), four],
            [(0, [(0.5, 0), 2], TIMEOUT, 2.5), (1, [(0.5, 0), 2], FOUND, 3.5), (2, [(1, 1)], FOUND, 2)], [[0, 1], [2]],
        ),
        'next set keeps the place': (
            {'max_sockets': 1}, [silence, four], [(0, [(0.5, 0), (0.5, 1)], FOUND, 0.5), (0, [(0.5, 0)] * 2, TIMEOUT, 1.5)],
            [[0, 0.5, 1], [0.5]],
        ),
        'look-up under way comes before one that begins': (
            {'max_sockets': 2}, [silence], [(0, [(0.5, 0)] * 3, TIMEOUT, 1.5), (0.1, [(0.5, 0, 0)], TIMEOUT, 2)], [[0, 0.5, 1, 1.5, 1.5]],
        ),
        'late answer in the step of the next query, which is not sent': (
            {}, [after(0.7 + 1e-10, four), after(0.2, truncated_and_empty)], [(0, [(0.5, 0), (1, 1)], FOUND, 0.7)], [[0], [0.5]],
        ),
        'old socket is given up': ({'limit': 1}, [silence, silence, four], [(0, [(1, 0, 1), (1, 2)], FOUND, 1)], [[0], [], [1]]),
        'no buffer for the next set': ({'room': 1}, [silence, after(0.1, four)], [(0, [(0.5, 0), (0.5, 1)], FOUND, 0.6)], [[0], [0.5]]),
        'no buffer for a retry': ({'room': 1}, [silence], [(0, [(0.5, 0)] * 3, TIMEOUT, 1.5)], [[0, 0.5, 1]]),
        'no buffer but that of the oldest': (
            {'room': 2}, [after(1.1, a('192.0.2.66')), after(0.7, four), silence], [(0, [(0.5, 0), (0.5, 1), (0.5, 2)], FOUND, 1.2)],
            [[0], [0.5], [1]],
        ),
        'no buffer, and a whole time once there is one': (
            {'room': 1}, [after(0.8, four), after(0.3, four)], [(0, [(9, 0)], FOUND, 0.8), (0, [(0.5, 1)], FOUND, 1.1)], [[0], [0.8]],
        ),
        'no buffer, and silence once there is one': (
            {'room': 1}, [after(0.8, four), silence], [(0, [(9, 0)], FOUND, 0.8), (0, [(0.5, 1)], TIMEOUT, 1.3)], [[0], [0.8]],
        ),
    })  # fmt: skip
    async def test_look_ups_go_on_with_few_sockets(self, nameserver, fake_sockets, few, replies, look_ups, asked_at):
        servers = [nameserver(reply) for reply in replies]
        fake_sockets(**{name: limit for name, limit in few.items() if name != 'max_sockets'})
        sets = {
            f'n{i}': [each if isinstance(each, int) else (each[0], *(servers[number].at for number in each[1:])) for each in given]
            for i, (_, given, *_) in enumerate(look_ups)
        }
        resolve = asking(**sets, max_sockets=few.get('max_sockets', 256))

        async def look_up(i, begins_at):
            await asyncio.sleep(begins_at)
            return await result_of(resolve(f'n{i}.example', TYPES.A)), pytest.approx(now() - 1000)

        results = await asyncio.gather(*(look_up(i, begins_at) for i, (begins_at, *_) in enumerate(look_ups)))
        assert results == [(expected, ends_at) for _, _, expected, ends_at in look_ups]
        assert [[when - 1000 for when in server.times] for server in servers] == [pytest.approx(times) for times in asked_at]

    @cases('short, qtype, ends_at, most_refused', {
        'EMFILE': ({'limit': 3, 'code': errno.EMFILE}, TYPES.A, 1000.4, 24),
        'ENFILE': ({'limit': 3, 'code': errno.ENFILE}, TYPES.A, 1000.4, 24),
        'ENOBUFS': ({'limit': 3, 'code': errno.ENOBUFS}, TYPES.A, 1000.4, 24),
        'EAGAIN, of ports': ({'limit': 3, 'code': errno.EAGAIN}, TYPES.A, 1000.4, 24),
        'no buffer': ({'room': 3}, TYPES.A, 1000.4, 24),
        'no buffer, and both types': ({'room': 2}, BOTH, 1001.2, 132),
    })  # fmt: skip
    async def test_look_ups_wait_for_others_to_end(self, resolving, fake_sockets, short, qtype, ends_at, most_refused):
        sockets = fake_sockets(**short)
        server, resolve = resolving(after(0.1, by(A=four, AAAA=six)))
        expected = ['192.0.2.1', '2001:db8::1'] if qtype is BOTH else ['192.0.2.1']
        assert await results_of(resolve, 12, qtype) == [expected] * 12
        assert (now(), list(dict.fromkeys(server.names))) == (pytest.approx(ends_at), [f'n{i}.example' for i in range(12)])
        assert 0 < sockets.refused <= most_refused  # none is tried again and again

    async def test_no_socket_at_all_is_an_error_with_the_reason(self, resolving, fake_sockets):
        fake_sockets(limit=0)
        _, resolve = resolving(four)
        error = await error_of(resolve('www.example.com', TYPES.A))
        assert (type(error), error.errno) == (m.NameserverUnreachable, errno.EMFILE)
        assert str(error).endswith('cannot be asked: Too many open files (5 times)')

    async def test_nameservers_that_were_not_asked_are_not_in_the_error(self, nameserver, fake_sockets):
        one, two = nameserver(silence), nameserver(silence)
        fake_sockets(limit=1)
        with pytest.raises(m.ResolverTimeout, match=f'^www.example.com A: {one.text} timed out after 1 s$'):
            await asking((1, one.at, two.at))('www.example.com', TYPES.A)

    async def test_whole_set_is_asked_once_the_shortage_is_over(self, nameserver, fake_sockets):
        silent, good, sockets = nameserver(after(0.2, servfail)), nameserver(after(0.3, four)), fake_sockets(limit=1)
        resolve = asking((1, silent.at), four=[(1, silent.at, silent.at, silent.at, good.at)])
        assert await results_of(resolve, 3) == [m.ResponseCodeError] * 3
        assert sockets.refused
        sockets.limit, started = 1000, now()
        assert texts(await resolve('four.example', TYPES.A)) == ['192.0.2.1']
        assert now() == pytest.approx(started + 0.3)

    async def test_no_buffer_at_all_is_an_error_with_the_reason(self, resolving, fake_sockets):
        sockets = fake_sockets(room=0)
        server, resolve = resolving(four)
        results = await asyncio.gather(*(resolve(f'n{i}.example', TYPES.A) for i in range(3)), return_exceptions=True)
        assert {type(result) for result in results} == {m.NameserverUnreachable}
        assert str(results[2]).endswith('cannot be asked: No buffer space available (5 times)')
        assert (now(), server.queries, sockets.open) == (1000, [], set())

    async def test_lost_buffers_with_nothing_under_way_are_an_error(self, nameserver, fake_sockets):
        sockets, resolve = fake_sockets(room=1), asking((1, nameserver(silence).at))
        under_way = resolve('a.example', TYPES.A)
        under_way.send(None)
        tasks = start(*(result_of(resolve(name, TYPES.A)) for name in ('b.example', 'c.example')))
        await asyncio.sleep(0.5)
        assert sockets.refused
        sockets.room = 0
        under_way.close()
        assert await asyncio.gather(*tasks) == [m.NameserverUnreachable] * 2
        assert now() == 1000.5
        await asyncio.sleep(1)

    def test_real_shortage_of_descriptors_stops_no_look_up(self, nsd):
        assert found_with_descriptors(nsd, 32, 'n{}.wild.zone.example', 500) == ("500 {'192.0.2.6'}\n", '')

    @pytest.mark.slow
    @cases('left, count', {'all descriptors': (1024, 50_000), 'ten left by the application': (10, 2000)})
    def test_many_more_names_than_descriptors_all_resolve(self, anything, left, count):
        assert found_with_descriptors(anything, 1024, 'n{}.example', count, left) == (f"{count} {{'127.0.0.1'}}\n", '')

    async def test_rest_of_a_set_without_a_buffer_waits_for_room_past_the_time_of_the_first(self, nameserver, fake_sockets):
        slow, closed, good = nameserver(after(3, four)), nameserver(), nameserver(a('192.0.2.2'))
        sockets = fake_sockets(room=2, closing=lambda _: setattr(sockets, 'room', 1))  # fewer, when the first is out
        resolve = asking((1, closed.at, good.at), a=[(9, slow.at)])
        (first,) = start(resolve('a.example', TYPES.A))
        await asyncio.sleep(0.5)
        async with asyncio.timeout(5):
            assert texts(await resolve('b.example', TYPES.A)) == ['192.0.2.2']
        assert (now(), texts(await first)) == (1003, ['192.0.2.1'])

    async def test_look_ups_that_find_a_buffer_later_in_the_step_are_not_hindered(self, nameserver, fake_sockets):
        slow, late, good = nameserver(after(3, four)), nameserver(after(0.1, four)), nameserver(after(0.2, four))
        refusals = iter([True, True])
        fake_sockets(sending=raises(errno.ENOBUFS, lambda sock: sock.getpeername() == late.at and next(refusals, False)))
        resolve = asking((1, late.at), slow=[(9, slow.at)], n2=[(1, good.at)])
        (first,) = start(resolve('slow.example', TYPES.A))
        assert await results_of(resolve, 3) == [['192.0.2.1']] * 3
        assert late.times == [1000.2, 1000.2]  # when the third one has closed its socket
        await first

    async def test_shortage_is_over_while_a_socket_is_open_all_the_time(self, nameserver, fake_sockets):
        silent, server, sockets = nameserver(silence), nameserver(after(0.1, a('192.0.2.1'))), fake_sockets(limit=2)
        resolve = asking((5, server.at), long=[(99, silent.at)])
        (long,) = start(resolve('long.example', TYPES.A))
        await asyncio.sleep(0.1)
        await results_of(resolve, 3)
        assert (now(), sockets.refused > 0) == (pytest.approx(1000.4), True)  # one after another
        sockets.limit = 1000
        await asyncio.gather(*(resolve(f'm{i}.example', TYPES.A) for i in range(100)))
        assert now() < 1001.2  # more at once with each that is closed
        await end(long)


class TestSlowNameservers:
    """A nameserver slower than its timeout: no reply on its way is thrown away."""

    @cases('qtype, max_sockets, count', {  # in three waves of 0.7 s
        'one type': (TYPES.A, 256, 600), 'seven sockets': (TYPES.A, 7, 20), 'one socket': (TYPES.A, 1, 3),
        'both families': (BOTH, 256, 300), 'two sockets and both families': (BOTH, 2, 3), 'six sockets and both families': (BOTH, 6, 9),
        'three sockets and both families': (BOTH, 3, 3),  # one after another: there is no room for the other's whole set
    })  # fmt: skip
    async def test_reply_later_than_the_timeout_fails_no_look_up(self, nameserver, fake_sockets, qtype, max_sockets, count):
        server, sockets = nameserver(after(0.7, by(A=four, AAAA=six))), fake_sockets()
        addresses = ['192.0.2.1', '2001:db8::1'] if qtype is BOTH else ['192.0.2.1']
        assert await results_of(resolver_for(server, max_sockets=max_sockets)[0], count, qtype) == [addresses] * count
        assert (now(), len(server.queries)) == (pytest.approx(1002.1), 2 * len(addresses) * count)
        assert max(sockets.counts) <= max_sockets

    @cases('max_sockets, count, sockets', {
        '256': (256, 1, 5), 'ten': (10, 1, 5), 'eight': (8, 1, 4), 'four': (4, 1, 2), 'three': (3, 1, 2), 'two': (2, 1, 1),
        'one': (1, 1, 1), 'four, of which another look-up has one': (4, 2, 2),
    })  # fmt: skip
    async def test_retry_takes_a_new_socket_while_fewer_than_half_are_open(self, resolving, max_sockets, count, sockets):
        server, resolve = resolving(silence, max_sockets=max_sockets)
        assert await results_of(resolve, count) == [m.ResolverTimeout] * count
        assert server.times[::count] == [1000, 1000.5, 1001, 1001.5, 1002]
        assert len({query.address for query in server.queries}) == sockets
        assert len({query.wire for query in server.queries}) == sockets  # over an open one the same query is sent again

    @cases('delay', {'after four retries': 2.2, 'after two retries': 1.2, 'after one retry': 0.7})
    async def test_any_of_several_queries_may_be_answered_late(self, resolving, delay):
        _, resolve = resolving(after(delay, four), max_sockets=2)
        assert (await result_of(resolve('www.example.com', TYPES.A)), now()) == (['192.0.2.1'], 1000 + delay)

    async def test_socket_of_another_look_up_is_never_closed(self, nameserver):
        slow, good = nameserver(after(0.9, a('192.0.2.1'))), nameserver(a('192.0.2.2'))
        resolve = asking(*[(0.25, slow.at)] * 5, good=[(0.25, good.at)], max_sockets=3)
        (late,) = start(results_of(resolve, 3))
        await asyncio.sleep(0.6)
        assert texts(await resolve('good.example', TYPES.A)) == ['192.0.2.2']
        assert now() == pytest.approx(1000.9)  # when the others are over
        assert await late == [['192.0.2.1']] * 3

    async def test_look_up_at_the_limit_asks_the_next_nameserver_in_place_of_its_own_oldest(self, nameserver):
        silent, good = nameserver(silence), nameserver(after(0.1, a('192.0.2.1')))
        assert await results_of(resolver_for(silent, good, max_sockets=2)[0], 4) == [['192.0.2.1']] * 4
        assert (silent.times, good.times, now()) == ([1000] * 2 + [1000.6] * 2, [1000.5] * 2 + [1001.1] * 2, pytest.approx(1001.2))

    async def test_very_many_tries_of_one_nameserver_take_sixteen_sockets(self, resolving, fake_sockets):
        sockets = fake_sockets()
        server, resolve = resolving(silence, times=40)
        with pytest.raises(m.ResolverTimeout):
            await resolve('www.example.com', TYPES.A)
        assert (len(server.queries), max(sockets.counts)) == (40, 16)

    async def test_look_up_at_the_limit_gives_up_its_oldest_and_no_later_one(self, nameserver):
        one, two, three = nameserver(silence), nameserver(after(0.8, a('192.0.2.1'))), nameserver(silence)
        resolve, _ = resolver_for(one, two, three, max_sockets=2, times=1)
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert ([len(server.queries) for server in (one, two, three)], now()) == ([1, 1, 1], pytest.approx(1001.3))


IGNORED = (
    'gave a reply that was ignored, since it does not keep the case of the letters in the query: if it never does, turn the mixing of the '
    'case off, by "options randomize-case:0" in resolv.conf or, with get_nameservers, by Resolver(transform_fqdn=lambda fqdn: fqdn)'
)


def cut(then, reply=truncated_and_empty):
    """A reply that is cut to nothing where the query has no OPT record."""
    return lambda query: (then if query.edns == 0 else reply)(query)


def bare_header(rcode):
    """A reply without a question."""
    return lambda query: query.to_wire()[:2] + bytes([0x80, rcode]) + bytes(8)


TOO_LONG = 'has an answer that does not fit in 1,232 octets of UDP'
FAILING = {  # replies, what is said of it, the error, seconds until it is out, queries it gets until then
    'silence': ([silence], 'timed out after 1 s', m.ResolverTimeout, 1, 1),
    'closed': ([], 'refused: nothing listens there', m.NameserverRefused, 0, 0),
    'SERVFAIL': ([servfail], 'answered SERVFAIL', m.ResponseCodeError, 0, 1),
    'REFUSED': ([refused], 'answered REFUSED', m.ResponseCodeError, 0, 1),
    'bare REFUSED': ([bare_header(5)], 'answered REFUSED', m.ResponseCodeError, 0, 1),
    'lame': ([lame], 'is neither authoritative nor recursive (lame)', m.TemporaryResolverError, 0, 1),
}
FAILING_AT_FIRST = {  # replies, seconds, queries
    'truncated and empty': ([truncated_and_empty], 0, 2),
    **{name: (replies, seconds, queries) for name, (replies, _, _, seconds, queries) in FAILING.items()},
    'wrong case': ([wrong_case], 1, 1),
    'dies': ([dies], 1, 1),
    'late': ([after(1.5, a('192.0.2.66'))], 1, 1),
    'comes back': ([silence, a('192.0.2.66')], 1, 1),
}
NO_SETS = 'no nameserver was asked, since get_nameservers yielded none, or since no socket or buffer was free'


class TestLookUps:
    """One question, put to one set of nameservers after another."""

    async def test_other_types_are_asked_for(self, resolving):
        server, resolve = resolving(a('2001:db8::1'), reply('? 20 IN TXT "so" "me"'), alias('b.example'))
        assert texts(await resolve('www.example.com', TYPES.AAAA)) == ['2001:db8::1']
        assert await resolve('www.example.com', TYPES.TXT) == (b'some',)
        assert await resolve('www.example.com', TYPES.CNAME) == (b'b.example',)
        assert server.types == [28, 16, 5]

    @cases('ip', {'IPv4': '127.0.0.1', 'IPv6': '::1', 'IPv6 with a scope id': '::1%lo', 'IPv6 as an object': ipaddress.ip_address('::1')})
    async def test_nameservers_of_both_families_are_asked(self, nameserver, ip):
        server = nameserver(a('192.0.2.1'), address=str(ip).removesuffix('%lo'))
        assert texts(await asking((1, (ip, server.at[1])))('www.example.com', TYPES.A)) == ['192.0.2.1']

    @cases('port', {'the least': 1, 'the greatest': 65535})
    def test_port_is_one_of_sixteen_bits(self, port):
        assert m.to_nameserver('192.0.2.1', port).port == port

    @cases('qtype', {'A': TYPES.A, 'both families': BOTH})
    async def test_look_up_creates_no_task_and_no_thread(self, resolving, qtype):
        _, resolve = resolving(silence, by(A=four, AAAA=six))
        (looking,) = start(resolve('www.example.com', qtype))
        with no_new_tasks(), unittest.mock.patch('threading.Thread.start', side_effect=AssertionError('a thread')):
            await looking

    async def test_timeout_around_a_look_up_is_as_around_sleep(self, resolving):
        _, resolve = resolving(silence)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.7):
                await resolve('www.example.com', TYPES.A)
        assert (type(caught.value), now(), asyncio.current_task().cancelling()) == (TimeoutError, 1000.7, 0)

    @cases('replies, sets, expected, ends_at, queries', {
        'the first answers': ([four, a('192.0.2.2')], [(1, 0), (1, 1)], ['192.0.2.1'], 1000, [1, 0]),
        'answer after its timeout': ([after(0.7, four), silence], [(0.5, 0), (0.5, 1)], ['192.0.2.1'], 1000.7, [1, 1]),
        'answer with its timeout': ([after(0.5, four), silence], [(0.5, 0), (0.5, 1)], ['192.0.2.1'], 1000.5, [1, 0]),
        'failure after its timeout': ([after(0.7, servfail), after(0.4, four)], [(0.5, 0), (0.5, 1)], ['192.0.2.1'], 1000.9, [1, 1]),
        'two that answer late': ([after(1.5, four), after(1.5, four)], [(1, 0), (1, 1)] * 2, ['192.0.2.1'], 1001.5, [1, 1]),
        'two that come back': ([first_of(silence, four), first_of(silence, four)], [(1, 0), (1, 1)] * 2, ['192.0.2.1'], 1002, [2, 1]),
        'two answers of one set': ([after(0.3, four), after(0.2, a('192.0.2.2'))], [(0.5, 0, 1)], ['192.0.2.2'], 1000.2, [1, 1]),
        'failure beside an answer': ([servfail, after(0.2, four), silence], [(0.5, 0, 1, 2)], ['192.0.2.1'], 1000.2, [1, 1, 1]),
        'NXDOMAIN beside an answer': ([after(0.3, four), nxdomain, silence], [(0.5, 0, 1, 2)], m.NameDoesNotExist, 1000, [1, 1, 1]),
        'all of one set are out': ([servfail, after(0.1, servfail), four], [(5, 0, 1), (5, 2)], ['192.0.2.1'], 1000.1, [1, 1, 1]),
        'bad address': ([bad_address, four], [(1, 0), (1, 1)], m.BadAddress, 1000, [1, 0]),
        'no nameserver': ([four], [(1,), (1,), (1, 0)], ['192.0.2.1'], 1000, [1]),
        'one without a route': ([four], [(1, NO_ROUTE), (1, NO_ROUTE), (1, 0)], ['192.0.2.1'], 1000, [1]),
        'two without a route': ([four], [(1, NO_ROUTE, ('fe80::2%nosuch', 53)), (1, 0)], ['192.0.2.1'], 1000, [1]),
        'timeout of another kind': ([silence, four], [(decimal.Decimal('0.5'), 0), (1, 1)], ['192.0.2.1'], 1000.5, [1, 1]),
        'late answer before a set, during a hook': ([after(0.7, four), silence], [(0.5, 0), 1, (0.5, 1)], ['192.0.2.1'], 1001.5, [1, 0]),
        'late answer at the end, during a hook': ([after(0.7, four)], [(0.5, 0), 1], ['192.0.2.1'], 1001.5, [1]),
        'late bad address at the end, during a hook': ([after(0.7, bad_address)], [(0.5, 0), 1], m.BadAddress, 1001.5, [1]),
        'late answer before a bad set, during a hook': ([after(0.7, four)], [(0.5, 0), 1, 'nonsense'], ['192.0.2.1'], 1001.5, [1]),
    })  # fmt: skip
    async def test_next_set_is_asked_when_one_is_out_or_its_time_is_up(self, nameserver, replies, sets, expected, ends_at, queries):
        servers = [nameserver(reply) for reply in replies]
        assert await result_of(asking(*numbered(servers, sets))('www.example.com', TYPES.A)) == expected
        assert (now(), [len(server.queries) for server in servers]) == (ends_at, queries)

    @cases('is_beside', {'before a good one': False, 'beside a good one': True})
    @cases('replies, seconds, queries', FAILING_AT_FIRST)
    async def test_failing_nameserver_costs_its_time_before_a_good_one(self, nameserver, replies, seconds, queries, is_beside):
        bad, good = nameserver(*replies), nameserver(a('192.0.2.1'), address='127.0.0.2')
        sets = [(1, bad.at, good.at)] if is_beside else [(1, bad.at), (1, good.at)] * 2
        assert await results_of(asking(*sets), 1) == [['192.0.2.1']]
        expected = (1000, min(queries, 1), 1) if is_beside else (1000 + seconds, queries, 1)
        assert (now(), len(bad.queries), len(good.queries)) == expected

    @cases('replies, says, error, seconds, queries', FAILING)
    async def test_failing_nameservers_alone_are_in_the_error(self, nameserver, replies, says, error, seconds, queries):
        one, two = servers = nameserver(*replies), nameserver(*replies, address='127.0.0.3')
        raised = await error_of(asking(*[(1, server.at) for server in servers] * 2)('www.example.com', TYPES.A))
        assert (type(raised), str(raised)) == (error, f'www.example.com A: {one.text} {says} (2 times); {two.text} {says} (2 times)')
        assert (now(), len(one.queries), len(two.queries)) == (1000 + 4 * seconds, 2 * queries, 2 * queries)
        if not replies:
            assert (type(raised.__cause__), raised.errno) == (ConnectionRefusedError, errno.ECONNREFUSED)

    @cases('spoil', {
        'other ID': lambda data: bytes([data[0] ^ 1]) + data[1:],
        'query': lambda data: data[:2] + b'\0' + data[3:],
        'other opcode': lambda data: data[:2] + b'\x88' + data[3:],
        'NOERROR': lambda data: data[:3] + b'\0' + data[4:],
        'NXDOMAIN': lambda data: data[:3] + b'\3' + data[4:],
        'cut off': lambda data: data[:11],
    })  # fmt: skip
    def test_other_bare_header_is_ignored(self, spoil):
        assert read(bare_header(5)(QUERY)).rcode == 5
        assert read(spoil(bare_header(5)(QUERY))) is None

    @cases('replies, sets, error, says', {
        'several': (
            [silence, refused, silence], [(0.5, 0), (2, 1, 2), (0.1, 1)], m.ResponseCodeError,
            '{0} timed out after 0.5 s; {1} answered REFUSED (2 times); {2} timed out after 2 s',
        ),
        'silence after an error': ([refused, silence], [(2, 1, 0)], m.ResolverTimeout, '{0} answered REFUSED; {1} timed out after 2 s'),
        'one that dies': ([dies], [(1, 0)] * 2, m.NameserverRefused, '{0} timed out after 1 s; {0} refused: nothing listens there'),
        'one that is cut, and then lost': (
            [cut(silence)], [(0.5, 0)], m.ResolverTimeout, '{0} gave a truncated reply that holds no record; {0} timed out after 0.5 s',
        ),
        'no permission': (
            [], [(1, ('255.255.255.255', 53))], m.NameserverUnreachable, '255.255.255.255:53 cannot be asked: Permission denied',
        ),
        'no set': ([], [], m.TemporaryResolverError, NO_SETS), 'empty sets': ([], [(1,), (1,)], m.TemporaryResolverError, NO_SETS),
    })  # fmt: skip
    async def test_error_tells_what_each_nameserver_did(self, nameserver, replies, sets, error, says):
        servers = [nameserver(reply) for reply in replies]
        raised = await error_of(asking(*numbered(servers, sets))('www.example.com', TYPES.A))
        assert (type(raised), str(raised)) == (error, f'www.example.com A: {says.format(*(server.text for server in servers))}')
        assert error is not m.ResponseCodeError or raised.rcode == 5

    async def test_error_of_very_many_failures_tells_some(self, clock, fake_sockets):
        fake_sockets(sending=raises(errno.EPERM))
        error = await error_of(asking(*((1, ('127.0.0.1', port)) for port in [*range(1, 500), 7]))('www.example.com', TYPES.A))
        assert str(error).count('127.0.0.1') == 100
        assert '127.0.0.1:7 cannot be asked: Operation not permitted (2 times)' in str(error)
        assert (type(error), type(error.__cause__)) == (m.NameserverUnreachable, PermissionError)

    @cases('call, code', {
        'no family': ('opening', errno.EAFNOSUPPORT), 'no route': ('sending', errno.ENETUNREACH), 'would block': ('sending', errno.EAGAIN),
    })  # fmt: skip
    async def test_error_of_a_socket_rules_its_nameserver_out(self, nameserver, fake_sockets, call, code):
        bad, good = nameserver(silence, address='::1'), nameserver(a('192.0.2.1'))
        fake_sockets(**{call: raises(code, lambda of: getattr(of, 'family', of) == socket.AF_INET6)})
        assert (await results_of(resolver_for(bad, good)[0], 5), now()) == ([['192.0.2.1']] * 5, 1000)

    async def test_error_of_recv_rules_the_nameserver_out(self, nameserver, fake_sockets):
        bad, good = nameserver(after(0.1, lambda _: b'unreachable')), nameserver(a('192.0.2.1'))
        fake_sockets(receiving=raises(errno.EHOSTUNREACH, lambda data: data == b'unreachable'))
        assert (await results_of(resolver_for(bad, good)[0], 1), now()) == ([['192.0.2.1']], 1000.1)
        error = await error_of(asking((1, bad.at))('www.example.com', TYPES.A))
        assert (type(error), str(error)) == (m.NameserverUnreachable, f'www.example.com A: {bad.text} cannot be asked: No route to host')
        assert (error.errno, type(error.__cause__)) == (errno.EHOSTUNREACH, OSError)

    @cases('other, ends_at', {  # nameservers: one that is silent, one that answers at once, and one that takes 0.1 s
        'with a late deadline': ([(9, 0), (9, 1)], 1009), 'with one that is over': ([(0.2, 0), (9, 1)], 1000.2),
        'with one that ends with it': ([(0.5, 0), (0.5, 1)], 1000.5), 'with an answer before it': ([(0.5, 2)], 1000.1),
    })  # fmt: skip
    async def test_each_of_the_sets_sent_together_has_its_own_deadline(self, nameserver, other, ends_at):
        servers = [nameserver(reply) for reply in (silence, four, after(0.1, four))]
        resolve = asking(*numbered(servers, [(0.5, 0), (0.5, 1)]), other=numbered(servers, other))

        async def time_of_answer(name):
            await resolve(f'{name}.example', TYPES.A)
            return now()

        assert await asyncio.gather(*map(time_of_answer, ('first', 'other', 'last'))) == [1000.5, ends_at, 1000.5]

    async def test_bad_address_is_raised_whatever_else_comes_in_the_same_step(self, nameserver):
        one, two = nameserver(silence), nameserver(silence, address='127.0.0.2')
        looking = await begun(asking((1, one.at, two.at)))
        one.send_at_once(bad_address)
        two.send_at_once(servfail)
        with pytest.raises(m.BadAddress, match=f'^www.example.com A: {one.text} gave .*3 octets, not 4, for www.example.com$'):
            await looking

    async def test_datagram_after_a_wrong_checksum_is_read(self, resolving, fake_sockets):
        fake_sockets(receiving=raises(errno.EAGAIN, lambda data: data == b'spoilt'))
        _, resolve = resolving(lambda query: [b'spoilt', 0.1, a('192.0.2.1')(query)])
        assert (await results_of(resolve, 1), now()) == ([['192.0.2.1']], pytest.approx(1000.1))

    async def test_reply_of_any_length_is_read_as_a_whole(self, resolving):
        addresses = [f'198.51.{i // 256}.{i % 256}' for i in range(4092)]  # 65,505 octets, where a datagram has room for 65,507
        _, resolve = resolving(a(*addresses))
        assert texts(await resolve('www.example.com', TYPES.A)) == addresses

    async def test_nameserver_of_a_hook_is_asked_as_often_as_the_hook_says(self, resolving):
        server, resolve = resolving(servfail, lame, servfail, a('192.0.2.1'))
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert (len(server.queries), now()) == (4, 1000)


class TestArrivedReplies:
    """A reply that is in its socket counts, however long a step of the loop took."""

    async def test_long_step_does_not_count_for_queries_sent_at_its_end(self, nameserver, clock):
        silent, server = nameserver(silence), nameserver(a('192.0.2.1', ttl=20))
        resolve = asking((0.5, server.at), first=[(0.5, silent.at)])
        first, *others = start(*(resolve(f'{name}.example', TYPES.A) for name in ('first', 'a', 'b')))
        asyncio.get_running_loop().call_soon(setattr, clock, 'now', clock.now + 0.7)
        assert [address.expires_at for addresses in await asyncio.gather(*others) for address in addresses] == [1020.7] * 2
        assert (server.times, len(timers_of(asyncio.get_running_loop()))) == ([1000.7] * 2, 1)
        assert await result_of(first) is m.ResolverTimeout
        assert now() == 1000.7  # its time had come meanwhile, and is not put off by the queries that left

    async def test_reply_that_is_there_at_the_deadline_is_read_before_another_set_is_asked(self, nameserver, clock, monkeypatch, caplog):
        monkeypatch.setattr(m.Poller, 'dispatch', lambda _: None)  # as on a loop that runs timers before it polls
        one, two = nameserver(a('192.0.2.1')), nameserver(a('192.0.2.2'), address='127.0.0.2')
        with system(one, two) as resolve:
            looking = await begun(resolve)
            clock.now += 0.5
            assert (texts(await looking), two.queries, caplog.messages) == (['192.0.2.1'], [], [])

    @pytest.mark.real_time
    @in_each_loop
    def test_step_longer_than_the_timeout_loses_no_reply(self, anything, loop_factory):
        async def scenario():
            resolve = asking((0.2, anything))
            early = start(results_of(resolve, 40))
            await steps(4)
            time.sleep(0.4)  # noqa: ASYNC251
            return await asyncio.gather(*early, *(result_of(resolve(f'm{i}.example', TYPES.A)) for i in range(40)))

        assert run(scenario(), loop_factory) == [[['127.0.0.1']] * 40] + [['127.0.0.1']] * 40

    async def test_sockets_beyond_one_poll_are_read_before_their_deadline(self, nameserver, clock):
        server = nameserver(a('192.0.2.1'))
        (looking,) = start(results_of(asking((1, server.at), max_sockets=3000), 1500))
        await steps(3)
        while len(server.queries) < 1500:
            server.read()
        clock.now += 2
        assert await looking == [['192.0.2.1']] * 1500

    @cases('arrived, then', {  # in a hook that does not yield to the loop: replies, by nameserver; and its next sets
        'and nothing follows': ([(0, four)], []),
        'and the query is to be sent again': ([(0, lambda _: b''), (0, four)], [(0.5, 0)]),  # behind an empty datagram
        'and so does another one': ([(0, four), (1, a('192.0.2.2'))], []),
    })  # fmt: skip
    async def test_reply_that_arrives_during_a_hook_is_read(self, nameserver, arrived, then):
        servers = [nameserver(silence), nameserver(silence)]

        def arrive():
            for number, reply in arrived:
                servers[number].send_at_once(reply)

        resolve = asking(*numbered(servers, [(0.5, 0, 1), arrive, *then]), max_sockets=2)
        assert (await results_of(resolve, 1), now()) == ([['192.0.2.1']], 1000.5)

    async def test_flood_does_not_stop_the_loop(self, nameserver, fake_sockets, clock):
        server = nameserver(silence)
        fake_sockets(receiving=lambda _: server.send_at_once(lambda _: bytes(40)))
        looking = await begun(asking((0.5, server.at)))
        server.send_at_once(lambda _: bytes(40))
        clock.now += 2
        assert await result_of(looking) is m.ResolverTimeout

    async def test_reply_behind_what_is_none_is_read(self, nameserver, clock):
        server = nameserver(silence)
        looking = await begun(asking((0.5, server.at)))
        for datagram in [lambda _: bytes(40)] * 5 + [a('192.0.2.1')]:
            server.send_at_once(datagram)
        clock.now += 2
        assert texts(await looking) == ['192.0.2.1']

    async def test_error_that_has_arrived_at_the_end_of_a_set_too_late_for_its_rest_is_told(self, nameserver):
        one, two = nameserver(silence), nameserver(a('192.0.2.2'))
        resolve = asking((0.5, one.at, two.at), max_sockets=1)
        asyncio.get_running_loop().call_at(1000.5 - 1e-10, lambda: one.send_at_once(servfail))  # in the step of the time-out
        assert (await results_of(resolve, 1), now()) == ([m.ResponseCodeError], pytest.approx(1000.5))

    async def test_reply_that_has_arrived_when_its_socket_is_to_be_given_up_is_the_answer(self, nameserver):
        server = nameserver(silence)
        resolve = asking((9, server.at), www=[(0.5, server.at), 2, (0.5, server.at)], max_sockets=1)
        (waiting,) = start(resolve('www.example', TYPES.A))
        await asyncio.sleep(1)
        other = resolve('other.example', TYPES.A)
        server.send_at_once(a('192.0.2.1'))
        other.send(None)  # it is to have the socket at the end of this step
        assert texts(await waiting) == ['192.0.2.1']
        other.close()

    async def test_late_reply_that_is_there_at_the_deadline_of_another_set_is_read_before_the_next_is_asked(
        self, nameserver, clock, monkeypatch
    ):
        monkeypatch.setattr(m.Poller, 'dispatch', lambda _: None)  # as on a loop that runs timers before it polls
        slow, silent, third = nameserver(silence), nameserver(silence), nameserver(silence)
        (looking,) = start(asking((0.5, slow.at), (0.5, silent.at), (0.5, third.at))('www.example.com', TYPES.A))
        await asyncio.sleep(0.7)
        slow.send_at_once(a('192.0.2.1'))
        clock.now += 0.3
        assert texts(await looking) == ['192.0.2.1']
        assert (len(silent.queries), third.queries) == (1, [])


def edns_of(server):
    return [dns.message.from_wire(query.wire).edns for query in server.queries]


BIG = [f'172.18.1.{i}' for i in range(40)]


class TestCutReplies:
    """Replies that hold no record, since it did not fit: the nameserver is asked once more, with EDNS (RFC 6891)."""

    @by_file_and_hook
    @cases('reply', {
        'empty': truncated_and_empty,
        'with an SOA': reply(authority=[SOA], flags=dns.flags.TC),
        'within a record': edited(lambda data: bytes(data[:2]) + b'\x82' + bytes(data[3:-1])),
        'with counts alone': edited(lambda data: bytes(data[:2]) + b'\x82' + bytes(data[3:-16])),
    })  # fmt: skip
    async def test_nameserver_is_asked_once_more_with_edns(self, nameserver, resolver, reply):
        server = nameserver(cut(a(*BIG), reply))
        with resolver(server) as resolve:
            for _ in range(2):  # the second time from the cache
                assert texts(await resolve('www.example.com', TYPES.A)) == BIG
            server.replies[:] = [a('192.0.2.1')]
            await resolve('other.example', TYPES.A)
        assert now() == 1000
        plain, again, other = [dns.message.from_wire(query.wire) for query in server.queries]
        assert (plain.edns, again.edns, again.payload, again.ednsflags, again.options) == (-1, 0, 1232, 0, ())
        assert (again.question, again.flags, len({query.address for query in server.queries[:2]})) == (plain.question, plain.flags, 2)
        assert other.edns == -1  # no other query has an OPT record

    @cases('given, qtype, expected, asked', {
        'a part of the records': (reply('? 20 IN A 192.0.2.1', flags=dns.flags.TC), TYPES.A, ['192.0.2.1'], ['www.example']),
        'an alias': (
            zone({'www.example': reply('? 20 IN CNAME b.example.', flags=dns.flags.TC), 'b.example': cut(a(*BIG))}), TYPES.A, BIG,
            ['www.example', 'b.example', 'b.example'],
        ),
        'nothing, of each type': (cut(by(A=four, AAAA=six)), BOTH, ['192.0.2.1', '2001:db8::1'], ['www.example'] * 4),
    })  # fmt: skip
    async def test_reply_is_used_as_far_as_it_goes(self, resolving, given, qtype, expected, asked):
        server, resolve = resolving(given)
        assert texts(await resolve('www.example', qtype)) == expected
        assert server.names == asked

    @cases('answered', {
        'FORMERR': formerr, 'SERVFAIL': servfail, 'lame': lame, 'cut again': truncated_and_empty,
        'unreadable': edited(lambda data: bytes(data[:-12])),  # of which eleven are the OPT record
    })  # fmt: skip
    async def test_nameserver_that_cannot_do_better_is_out(self, nameserver, answered):
        one, two = nameserver(cut(answered)), nameserver(nxdomain, a('192.0.2.1'), cut(answered), address='127.0.0.2')
        with system(one, two) as resolve:
            assert await result_of(resolve('x.example', TYPES.A)) is m.NameDoesNotExist
            assert await result_of(resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
            error = await error_of(resolve('www.example', TYPES.A))
        told = (f'{server.text} {what}' for server in (one, two) for what in ('gave a truncated reply that holds no record', TOO_LONG))
        assert (type(error), str(error)) == (m.AnswerTooLong, f'www.example A: {"; ".join(told)}')
        assert (now(), len(one.queries), len(two.queries)) == (1000, 6, 4)

    @cases('replies, steps, expected, edns, ends_at', {
        'its reply is lost': ([truncated_and_empty, silence, cut(four)], [(0.5, 0)] * 3, ['192.0.2.1'], [-1, 0, 0], 1000.5),
        'its reply has a whole timeout': (
            [after(0.3, truncated_and_empty), after(0.3, four)], [(0.5, 0)] * 3, ['192.0.2.1'], [-1, 0], 1000.6,
        ),
        'a query beside it is given up': (
            [after(0.7, truncated_and_empty), after(9, a('192.0.2.66')), four], [(0.5, 0)] * 3, ['192.0.2.1'], [-1, -1, 0], 1000.7,
        ),
        'the first is cut while a hook is awaited': (
            [after(0.7, truncated_and_empty), cut(four, servfail)], [(0.5, 0), 1, (0.5, 0)], ['192.0.2.1'], [-1, 0], 1001.5,
        ),
        'an address of three octets': (
            [truncated_and_empty, edited(lambda data: bytes(data[:-16]) + b'\3' + bytes(data[-14:]))],  # the last eleven are the OPT record
            [(0.5, 0)], m.BadAddress, [-1, 0], 1000,
        ),
    })  # fmt: skip
    async def test_query_with_edns_takes_the_place_of_the_other(self, nameserver, replies, steps, expected, edns, ends_at):
        server = nameserver(*replies)
        assert await result_of(asking(*numbered([server], steps))('www.example.com', TYPES.A)) == expected
        assert (edns_of(server), now()) == (edns, pytest.approx(ends_at))

    async def test_cut_reply_that_is_there_when_the_time_is_up_is_asked_for_again(self, nameserver, clock):
        server = nameserver(cut(a('192.0.2.1')))
        (looking,) = start(asking((0.5, server.at))('www.example.com', TYPES.A))
        await asyncio.sleep(0)
        server.read()
        clock.now += 1  # a long step, in which the reply has arrived
        assert texts(await looking) == ['192.0.2.1']

    async def test_nameserver_is_not_demoted_where_edns_does_not_pass(self, nameserver, caplog):
        given = cut(silence, after(0.1, truncated_and_empty))  # all of which have come when the first query with EDNS is sent
        one, two = nameserver(given), nameserver(given, address='127.0.0.2')
        with system(one, two, options='attempts:1') as resolve:
            for _ in range(2):
                assert await results_of(resolve, 3) == [m.ResolverTimeout] * 3
        assert (caplog.messages, len(one.queries)) == ([], 12)

    @pytest.mark.parametrize('max_sockets', [1, 2])
    async def test_it_needs_no_further_socket(self, resolving, max_sockets):
        _, resolve = resolving(cut(a('192.0.2.1')), max_sockets=max_sockets)
        assert (await results_of(resolve, 5), now()) == ([['192.0.2.1']] * 5, 1000)

    async def test_two_names_at_once_whose_queries_with_edns_are_lost_demote_no_nameserver(self, nameserver, caplog):
        one, two = nameserver(cut(silence)), nameserver(a('192.0.2.1'), address='127.0.0.2')
        with system(one, two) as resolve:
            assert await results_of(resolve, 2) == [['192.0.2.1']] * 2
            await resolve('other.example', TYPES.A)
        assert (caplog.messages, one.names[-1]) == ([], 'other.example')

    async def test_other_type_of_a_name_whose_reply_was_cut_is_asked_for_without_edns(self, resolving):
        server, resolve = resolving(by(A=first_of(truncated_and_empty, silence, four), AAAA=first_of(silence, six)))
        assert texts(await resolve('www.example.com', BOTH)) == ['192.0.2.1', '2001:db8::1']
        assert list(zip(server.types, edns_of(server), strict=True)) == [(1, -1), (28, -1), (1, 0), (1, 0), (28, -1)]

    async def test_cut_replies_to_two_queries_are_one_query_with_edns(self, resolving):
        server, resolve = resolving(after(0.9, truncated_and_empty), after(0.2, truncated_and_empty), after(0.4, four))
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert (edns_of(server), now()) == ([-1, -1, 0], pytest.approx(1001.1))


class TestArguments:
    """The arguments of `Resolver` and `resolve`."""

    async def test_number_equal_to_a_type_is_that_type(self, resolving):
        _, resolve = resolving(a('192.0.2.1'), get_host=Hosts())  # which takes a member of TYPES only
        assert texts(await resolve('www.example.com', 1)) == ['192.0.2.1']
        with pytest.raises(m.ResolverError, match='www.example.com AAAA:'):
            await resolve('www.example.com', 28)
        assert texts(await resolve('ftp.example.com', 1.0)) == ['192.0.2.1']

    @cases('name, qtype, error, says', {
        'name as bytes': (b'www.example.com', TYPES.A, TypeError, "name must be a str, not b'www.example.com'"),
        'other number': (
            'www.example.com', 2, ValueError,
            '2 is not a supported record type: use TYPES.A, TYPES.CNAME, TYPES.TXT, TYPES.AAAA or a tuple of A and AAAA',
        ),
        'type as text': ('www.example.com', 'A', ValueError, "'A' is not a supported"),
        'fraction as type': ('www.example.com', 1.5, ValueError, '1.5 is not a supported'),
        'list of a type': ('www.example.com', [TYPES.A], ValueError, '] is not a supported'),
        'tuple of none': ('www.example.com', (), ValueError, '() is not a supported'),
        'tuple with TXT beside A': ('www.example.com', (TYPES.A, TYPES.TXT), ValueError, ') is not a supported'),
        'tuple of CNAME': ('www.example.com', (TYPES.CNAME,), ValueError, ',) is not a supported'),
        'tuple of a list': ('www.example.com', ([],), ValueError, '([],) is not a supported'),
    })  # fmt: skip
    async def test_argument_of_another_kind_is_refused_before_anything_is_sent(self, resolving, get_host, name, qtype, error, says):
        server, resolve = resolving(a('192.0.2.1'), get_host=get_host)
        with pytest.raises(error, match=re.escape(says)):
            await resolve(name, qtype)
        assert server.queries == []

    @cases('options, error, says', {
        'no socket': ({'max_sockets': 0}, ValueError, 'max_sockets must be a whole number of at least 1, not 0'),
        'half a socket': ({'max_sockets': 2.5}, ValueError, 'max_sockets'),
        'sockets as text': ({'max_sockets': '2'}, ValueError, "max_sockets must be .*, not '2'"),
        'cache of less than nothing': ({'max_cache_size': -1}, ValueError, 'max_cache_size must be a number of at least 0, not -1'),
        'cache size as text': ({'max_cache_size': '2'}, ValueError, "max_cache_size must be .*, not '2'"),
        'stale for less than nothing': ({'stale_for': -1}, ValueError, 'stale_for must be a number of at least 0, not -1'),
        'stale for no number': ({'stale_for': math.nan}, ValueError, 'stale_for must be .*, not nan'),
        'timeout of nothing': ({'timeout': 0}, ValueError, 'timeout must be a number of seconds above 0, not 0'),
        'endless timeout': ({'timeout': math.inf}, ValueError, 'timeout must be .*, not inf'),
        'timeout as text': ({'timeout': '2'}, ValueError, "timeout must be .*, not '2'"),
        'timeout beside a hook': ({'timeout': 1, 'get_nameservers': Sets()}, ValueError, 'timeout is for resolv.conf'),
        'get_host that is no function': ({'get_host': '127.0.0.1'}, TypeError, "must be functions, not '127.0.0.1'"),
        'get_nameservers that is no function': ({'get_nameservers': '127.0.0.1'}, TypeError, "must be functions, not '127.0.0.1'"),
        'transform_fqdn of None': ({'transform_fqdn': None}, TypeError, 'must be functions, not None'),
    })  # fmt: skip
    def test_option_that_makes_no_sense_is_refused(self, options, error, says):
        with pytest.raises(error, match=says):
            Resolver(**options)


class TestHooks:
    """`get_host` and `get_nameservers` of the caller."""

    async def test_hook_may_need_the_sockets_of_another_look_up_of_its_caller(self, nameserver):
        silent, good = nameserver(silence), nameserver(by(A=four, AAAA=six))
        of_a = Sets((0.5, silent.at), lambda: resolve('z.example', BOTH), (0.5, good.at))
        generators = iter([of_a, Sets((0.5, silent.at), (0.5, good.at)), Sets((0.5, good.at))])
        resolve, _ = Resolver(no_host, lambda fqdn: next(generators)(fqdn), max_sockets=2)
        gone, both = start(*(resolve('x.example', qtype) for qtype in (TYPES.A, BOTH)))
        await asyncio.sleep(0.2)
        await end(gone)
        assert (texts(await both), now()) == (['192.0.2.1', '2001:db8::1'], 1000.5)

    async def test_get_host_that_ignores_the_type_is_believed_once(self, clock):
        assert texts(await Resolver(Hosts(IP))[0]('www.example.com', (TYPES.AAAA, TYPES.A))) == ['192.0.2.1']

    @cases('found, expected, expires_at', {
        'address': (IP, ['192.0.2.1'], 1000), 'address that expires': (m.IPv4AddressExpiresAt('192.0.2.1', 5), ['192.0.2.1'], 5),
        'tuple': ((IP, ipaddress.ip_address('fe80::1%lo')), ['192.0.2.1', 'fe80::1%lo'], 1000), 'list': ([IP], ['192.0.2.1'], 1000),
        'empty tuple': ((), ['192.0.2.9'], 1020), 'None': (None, ['192.0.2.9'], 1020), 'bytes': (b'text', ["b'text'"], 1000),
    })  # fmt: skip
    async def test_get_host_gives_none_one_or_several(self, resolving, found, expected, expires_at):
        get_host = Hosts(found)
        _, resolve = resolving(a('192.0.2.9'), get_host=get_host)
        addresses = await resolve('WWW.example.com.', TYPES.A)
        assert (texts(addresses), {address.expires_at for address in addresses}) == (expected, {expires_at})
        assert get_host.asked == [(b'www.example.com', TYPES.A)]

    async def test_answer_that_expires_during_get_host_is_asked_for_again(self, resolving):
        server, resolve = resolving(a('192.0.2.1', ttl=20), get_host=lambda *_: asyncio.sleep(2))
        await resolve('www.example.com', TYPES.A)
        await asyncio.sleep(19)
        await resolve('www.example.com', TYPES.A)
        assert len(server.queries) == 2

    @cases('hook, says', {
        'get_host of text': ({'get_host': Hosts('192.0.2.1')}, "where an ipaddress object, .* '192.0.2.1' is not an ipaddress object"),
        'get_host that is no coroutine function': ({'get_host': lambda *_: None}, 'async def'),
        'get_nameservers that gives a list': ({'get_nameservers': lambda _: [(1, ('127.0.0.1', 53))]}, 'async generator'),
        'get_nameservers that gives an iterator': ({'get_nameservers': lambda _: iter(())}, 'async generator'),
    })  # fmt: skip
    async def test_hook_that_gives_something_else_is_an_error_that_shows_it(self, clock, hook, says):
        with pytest.raises(m.ResolverError, match=f'www.example.com A: {next(iter(hook))} gave .*{says}'):
            await Resolver(**{'get_host': no_host, **hook})[0]('www.example.com', TYPES.A)

    async def test_get_nameservers_that_is_an_empty_container_is_one(self, nameserver):
        server = nameserver(a('192.0.2.1', ttl=300))
        hook = type('Pool', (Sets,), {'__len__': lambda _: 0})((1, server.at))
        with files(resolv_conf='search lan.example\noptions ndots:5'):
            await Resolver(get_nameservers=hook)[0]('www.example.com', TYPES.A)
        assert server.names == ['www.example.com']

    @cases('given, says', {
        'name of a nameserver': ((1, ('dns.example', 53)), "'dns.example' does not appear to be an IPv4 or IPv6 address"),
        'port 0': ((1, ('127.0.0.1', 0)), '0 is not a valid port'),
        'port above sixteen bits': ((1, ('127.0.0.1', 65536)), '65536 is not a valid port'),
        'port as text': ((1, ('127.0.0.1', '53')), "'53' is not a valid port"),
        'port missing': ((1, ('127.0.0.1',)), 'port'),
        'number as nameserver': ((1, 2130706433), 'int'),
        'timeout below zero': ((-1, ('127.0.0.1', 53)), '-1 is not a valid timeout'),
        'endless timeout': ((math.inf, ('127.0.0.1', 53)), 'inf is not a valid timeout'),
        'timeout of 400 digits': ((10**400, ('127.0.0.1', 53)), 'too large'),
        'timeout as text': (('1', ('127.0.0.1', 53)), "'1'"),
        'empty tuple': ((), '(), where'),
    })  # fmt: skip
    async def test_bad_set_is_an_error_that_shows_it(self, clock, given, says):
        error = await error_of(asking(given)('www.example.com', TYPES.A))
        assert re.match('www.example.com A: get_nameservers yielded .*' + re.escape(says), str(error))
        assert isinstance(error.__cause__, (TypeError, ValueError, OverflowError))

    async def test_nameservers_are_chosen_at_the_turn_of_a_look_up(self, nameserver):
        hook = Sets((1, nameserver(after(0.5, a('192.0.2.1'))).at))
        await results_of(Resolver(no_host, hook, max_sockets=2)[0], 6)
        assert hook.called_at == [1000, 1000, 1000.5, 1000.5, 1001, 1001]

    @cases('before, max_sockets, count, ends_at', {
        'after a pause': ([1], 1, 5, 1001),
        'between the sets of one look-up': ([(0.5, 0)], 2, 1, 1000.5),
        'between the sets of two look-ups': ([(0.5, 0)], 2, 2, 1000.5),
        'between the sets of five look-ups': ([(0.5, 0)], 2, 5, 1001.5),
    })  # fmt: skip
    async def test_hook_may_wait_and_resolve(self, nameserver, before, max_sockets, count, ends_at):
        servers = nameserver(silence), nameserver(a('192.0.2.1'))
        steps = numbered(servers, [*before, lambda: resolve('ns.example', TYPES.A), (0.5, 1)])
        resolve = asking(*steps, ns=steps[-1:], max_sockets=max_sockets)
        assert (await results_of(resolve, count), now()) == ([['192.0.2.1']] * count, ends_at)

    @cases('max_sockets, others, other_at, expected', {
        'no other look-up': (1, [], 1000.1, '192.0.2.1'),
        'another with no other socket': (1, ['other.example'], 1000.5, '192.0.2.2'),
        'another with a socket': (2, ['other.example'], 1000.1, '192.0.2.1'),
    })  # fmt: skip
    async def test_late_sockets_are_for_others_while_a_hook_is_awaited(self, nameserver, max_sockets, others, other_at, expected):
        slow, server = nameserver(after(0.6, a('192.0.2.1'))), nameserver(a('192.0.2.2'))
        then = 0.5, server.at
        resolve = asking(then, www=[(0.5, slow.at), 1.5, then], max_sockets=max_sockets)
        (first,) = start(resolve('www.example.com', TYPES.A))
        await asyncio.sleep(0.1)
        for name in others:
            await resolve(name, TYPES.A)
        assert now() == other_at
        assert (texts(await first), now()) == ([expected], 1002)
        assert await results_of(resolve, 3) == [['192.0.2.2']] * 3  # with nothing left to be given up

    @pytest.mark.real_time
    async def test_endless_hook_of_useless_sets_does_not_stop_the_loop(self):
        async def get_nameservers(_):
            while True:
                yield 1, NO_ROUTE

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(Resolver(no_host, get_nameservers)[0]('www.example.com', TYPES.A), 0.05)

    @pytest.mark.real_time
    @in_each_loop
    def test_long_hook_whose_sends_fail_does_not_grow(self, fake_sockets, loop_factory):
        fake_sockets(sending=raises(errno.EPERM)).counts = collections.deque(maxlen=1)
        sizes = []

        async def get_nameservers(_):
            for i in range(1001):
                if i in (200, 1000):
                    sizes.append(sys.getallocatedblocks())
                yield 1, ('127.0.0.1', 1 + i % 50)

        with pytest.raises(m.NameserverUnreachable):
            run(Resolver(no_host, get_nameservers)[0]('www.example.com', TYPES.A), loop_factory)
        assert sizes[1] - sizes[0] < 800  # less than a block of memory for each try

    @cases('before, name, qtype, ends_at', {
        'the same': ([], 'www.example', TYPES.A, 1000), 'another spelling': ([], 'WWW.Example.', TYPES.A, 1000),
        'another type': ([], 'www.example', TYPES.AAAA, 1000), 'both types': ([], 'www.example', BOTH, 1000),
        'the same after a pause': ([0.1], 'www.example', TYPES.A, 1000.1),
        'the same after a set': ([(0.1, 0)], 'www.example', TYPES.A, 1000.1),
    })  # fmt: skip
    @cases('outer', {'A': TYPES.A, 'both types': BOTH})
    async def test_hook_that_resolves_its_own_name_is_an_error_for_all_who_wait(self, nameserver, outer, before, name, qtype, ends_at):
        servers = nameserver(silence), nameserver(four)
        resolve = asking(*numbered(servers, [*before, lambda: resolve(name, qtype), (1, 1)]))
        async with asyncio.timeout(1):  # of virtual time, so that a hang is a failure
            errors = await asyncio.gather(*(error_of(resolve('www.example', outer)) for _ in range(3)))
        assert (['www.example' in str(error) for error in errors], now()) == ([True] * 3, ends_at)

    async def test_hook_may_resolve_its_name_by_another_resolver(self, nameserver):
        other, _ = resolver_for(nameserver(after(0.2, four)))
        (before,) = start(other('www.example', TYPES.A))
        await asyncio.sleep(0.1)  # so that the hook joins it
        resolve = asking(lambda: other('www.example', TYPES.A), (1, nameserver(four).at))
        assert (texts(await resolve('www.example', TYPES.A)), now()) == (['192.0.2.1'], 1000.2)
        await before

    async def test_hook_may_go_on_after_the_error_for_its_own_name(self, nameserver):
        resolve = asking(lambda: error_of(resolve('www.example', TYPES.A)), (1, nameserver(four).at))
        async with asyncio.timeout(1):
            assert texts(await resolve('www.example', TYPES.A)) == ['192.0.2.1']

    async def test_hooks_that_resolve_each_others_names_in_one_task_get_an_error_at_once(self, clock):
        resolve = asking(a=[lambda: resolve('b.example', TYPES.A)], b=[lambda: resolve('a.example', TYPES.A)])
        async with asyncio.timeout(1):
            await error_of(resolve('a.example', TYPES.A))
        assert now() == 1000

    @cases('early, late, ends_at, expected', {
        'silence': (silence, silence, 1005.2, '2001:db8::1'),  # by a new generator, which asks and sleeps again
        'an error': (servfail, servfail, 1004.7, '2001:db8::1'),
        'a late answer': (after(2.2, a('2001:db8::7')), silence, 1002.7, '2001:db8::7'),
    })  # fmt: skip
    async def test_hook_whose_caller_leaves_is_awaited_by_one_that_is_back_from_another(self, nameserver, early, late, ends_at, expected):
        first, good = nameserver(by(A=silence, AAAA=first_of(early, late))), nameserver(by(A=four, AAAA=six))
        resolve = asking((0.5, first.at), 2, (0.5, good.at))
        (single,) = start(resolve('www.example', TYPES.AAAA))
        await asyncio.sleep(0.2)
        (both,) = start(resolve('www.example', BOTH))  # which asks for A by a flight of its own
        await asyncio.sleep(0.8)
        single.cancel()  # in its hook, while that for A is awaited until 1002.7
        assert texts(await both) == ['192.0.2.1', expected]
        assert now() == pytest.approx(ends_at)

    async def test_get_host_is_asked_for_the_name_as_given_before_the_search_list(self, nameserver):
        server, get_host = nameserver(zone({'db.a.example': '192.0.2.66'})), Hosts(db=IP)
        with system(server, search='a.example'):
            assert texts(await Resolver(get_host)[0]('db', TYPES.A)) == ['192.0.2.1']
        assert (get_host.asked, server.queries) == ([(b'db', TYPES.A)], [])

    async def test_hook_that_resolves_another_type_of_its_name_is_an_error_where_that_is_in_a_hook_of_its_own(self, nameserver):
        answer = 1, nameserver(by(A=four, AAAA=six)).at
        of_a = Sets(0.1, lambda: resolve('x.example', TYPES.AAAA))
        generators = iter([of_a, Sets(0.2, lambda: resolve('x.example', TYPES.A), answer), Sets(answer)])
        resolve, _ = Resolver(no_host, lambda fqdn: next(generators)(fqdn))
        async with asyncio.timeout(1):
            results = await asyncio.gather(*(result_of(resolve('x.example', qtype)) for qtype in BOTH))
        assert results == [m.ResolverError, ['2001:db8::1']]

    async def test_hook_that_is_due_to_a_caller_in_another_is_awaited_by_one_that_joins(self, nameserver):
        good = nameserver(by(A=four, AAAA=six))
        generators = iter([Sets(pause, (1, good.at)) for pause in (0.5, 30, 0.5)])
        resolve, _ = Resolver(no_host, lambda fqdn: next(generators)(fqdn))
        gone, both = start(*(resolve('x.example', qtype) for qtype in (TYPES.A, BOTH)))
        await asyncio.sleep(0.2)
        await end(gone)
        assert (texts(await resolve('x.example', TYPES.A)), now()) == (['192.0.2.1'], 1000.7)
        assert (texts(await both), now()) == (['192.0.2.1', '2001:db8::1'], 1030)

    async def test_hook_that_resolves_its_own_name_is_an_error_where_another_flight_is_due_to_its_caller(self, nameserver):
        resolve = asking(0.1, lambda: resolve('www.example', TYPES.A), (1, nameserver(four).at))
        gone, both = start(*(resolve('www.example', qtype) for qtype in (TYPES.A, BOTH)))
        await asyncio.sleep(0.05)
        await end(gone)
        async with asyncio.timeout(1):
            assert 'awaits the name that it is called for' in str(await error_of(both))


NOT_IN_THE_DNS = m.NameDoesNotExist, 'does not exist: the DNS has no such names (RFC 7686, RFC 6761)'


class TestSpecialNames:
    """IP addresses, and names under localhost, onion and invalid: nothing is sent."""

    @cases('name, qtype, expected', {  # an address and when it expires; or an error and what it says
        'IPv4': ('192.0.2.1', TYPES.A, ('192.0.2.1', math.inf)), 'IPv4 with a final dot': ('192.0.2.1.', TYPES.A, ('192.0.2.1', math.inf)),
        'IPv4 in wide digits': ('１９２.０.２.１', TYPES.A, ('192.0.2.1', math.inf)),
        'IPv6': ('2001:DB8::1', TYPES.AAAA, ('2001:db8::1', math.inf)),
        'scope id, whose case is kept': ('FE80::1%Eth0', TYPES.AAAA, ('fe80::1%Eth0', math.inf)),
        'scope id with a final dot': ('fe80::1%Eth0.', TYPES.AAAA, ('fe80::1%Eth0', math.inf)),
        'AAAA of IPv4': ('192.0.2.1', TYPES.AAAA, (m.NoRecords, 'an IPv4 address has nothing else')),
        'text of IPv6': ('::1', TYPES.TXT, (m.NoRecords, 'an IPv6 address has nothing else')),
        'localhost': ('localhost', TYPES.A, ('127.0.0.1', 1000)), 'localhost of IPv6': ('LOCALHOST.', TYPES.AAAA, ('::1', 1000)),
        'under localhost': ('a.b.localhost', TYPES.A, ('127.0.0.1', 1000)),
        'text of localhost': (
            'localhost', TYPES.TXT, (m.NoRecords, 'has no such record: names under localhost have only addresses (RFC 6761)'),
        ),
        'under onion': ('x.onion', TYPES.A, NOT_IN_THE_DNS), 'onion': ('onion', TYPES.A, NOT_IN_THE_DNS),
        'under invalid': ('x.invalid', TYPES.AAAA, NOT_IN_THE_DNS),
    })  # fmt: skip
    async def test_special_name_is_not_asked_for(self, resolving, get_host, name, qtype, expected):  # RFC 6761, RFC 7686
        server, resolve = resolving(a('192.0.2.9'), get_host=get_host)
        try:
            (address,) = await resolve(name, qtype)
        except m.ResolverError as error:
            assert (type(error), str(error)) == (expected[0], f'{name} {qtype.name}: {expected[1]}')
        else:
            assert (str(address), address.expires_at) == expected
        assert server.queries == []

    @pytest.mark.parametrize('name', ['x.local', 'xlocalhost', 'localhost.example', '1.2.3'])
    async def test_name_that_is_only_like_a_special_one_is_asked_for(self, resolving, get_host, name):
        server, resolve = resolving(a('192.0.2.9'), get_host=get_host)
        (address,) = await resolve(name, TYPES.A)
        assert (str(address), address.expires_at, server.names) == ('192.0.2.9', 1020, [name])

    @cases('options, hosts, name, expected', {
        'one family of localhost': ({}, '127.0.0.5 localhost', 'localhost', ['127.0.0.5']),
        'get_host, localhost': ({'get_host': Hosts(IP)}, '', 'localhost', ['192.0.2.1']),
        'get_host, onion': ({'get_host': Hosts(IP)}, '', 'x.onion', ['192.0.2.1']),
        'get_host of nothing': ({'get_host': no_host}, '127.0.0.5 localhost', 'localhost', ['127.0.0.1', '::1']),
    })  # fmt: skip
    async def test_host_of_a_special_name_is_the_answer_for_both_types(self, nameserver, options, hosts, name, expected):
        server = nameserver(a('192.0.2.66'))
        with system(server, hosts=hosts):
            assert texts(await Resolver(**options)[0](name, BOTH)) == expected
        assert server.queries == []

    @cases('end, expected', {'under localhost': ('x.localhost', ['127.0.0.1']), 'under onion': ('x.onion', m.NameDoesNotExist)})
    async def test_special_name_at_the_end_of_an_alias_is_not_asked_for(self, resolving, end, expected):
        server, resolve = resolving(alias(end))
        assert await result_of(resolve('www.example', TYPES.A)) == expected
        assert server.names == ['www.example']


def chain(label, *end):
    """A reply with twelve aliases, and what is at their end."""
    links = (f'{label}{i}.example. 5 IN CNAME {label}{i + 1}.example.' for i in range(11))
    return reply(f'? 5 IN CNAME {label}0.example.', *links, *end)


class TestAliases:
    """Chains of CNAME records."""

    async def test_alias_whose_end_is_not_in_the_reply_is_asked_for_and_expires_with_the_first_of_its_links(self, resolving):
        end = after(0.5, reply('? 100 IN A 192.0.2.1', '? 30 IN A 192.0.2.2'))
        server, resolve = resolving(after(0.25, alias('b.example', ttl=5)), alias('c.example', ttl=50), end)
        # From when each was asked for, which was at 1000, 1000.25 and 1000.25.
        for name, expiry in (('www.example.com', [1005, 1005]), ('b.example', [1050.25, 1030.25]), ('c.example', [1100.25, 1030.25])):
            assert [address.expires_at for address in await resolve(name, TYPES.A)] == expiry
        await asyncio.sleep(4.25)
        await resolve('www.example.com', TYPES.A)
        assert server.names == ['www.example.com', 'b.example', 'c.example', 'www.example.com']

    @cases('get_host, expected', {
        'addresses of get_host': (
            Hosts(b=(ipaddress.ip_address('192.0.2.7'), m.IPv4AddressExpiresAt('192.0.2.8', 1030))), {'192.0.2.7': 1000, '192.0.2.8': 1020},
        ),
        'address of the file': (None, {'192.0.2.7': 1000}),
    })  # fmt: skip
    async def test_alias_to_a_host_is_found_there(self, resolving, get_host, expected):
        with files(hosts='192.0.2.7 b.example'):
            addresses = await resolving(alias('B.example'), get_host=get_host)[1]('www.example.com', TYPES.A)
        assert {str(address): address.expires_at for address in addresses} == expected

    @cases('error', {'error of the module': m.DoesNotExist('b.example A: blocked'), 'KeyError': KeyError('b')})
    @pytest.mark.parametrize('of', ['get_host', 'get_nameservers', 'transform_fqdn'])
    async def test_error_of_a_hook_passes_for_an_alias_too(self, nameserver, of, error):
        def transform(fqdn):
            if (of, fqdn) == ('transform_fqdn', b'b.example'):
                raise error
            return fqdn

        asked, get_host = (1, nameserver(alias('b.example')).at), Hosts(b=error if of == 'get_host' else None)
        resolve = asking(asked, b=[error if of == 'get_nameservers' else asked], get_host=get_host, transform_fqdn=transform)
        with pytest.raises(type(error)) as caught:
            await resolve('www.example.com', TYPES.A)
        assert caught.value is error

    @cases('known, says, queries', {
        'loop over several replies': (
            {'www.example.com': alias('b.example', 0), 'b.example': alias('www.example.com', 0)},
            'www.example.com A: .* a loop of aliases: www.example.com → b.example → www.example.com', 2,
        ),
        'loop in one reply': ({'www.example.com': aliases_in_a_loop}, r'www.example.com A: 127.0.0.1:\d+ gave a loop', 1),
        'more than sixteen': (
            {'www.example.com': alias('n0.example')} | {f'n{i}.example': alias(f'n{i + 1}.example') for i in range(20)},
            'more than 16 aliases', 17,
        ),
        'more than sixteen in two replies, of which one has an address': (
            {'www.example.com': chain('a'), 'a11.example': chain('b', 'b11.example. 5 IN A 192.0.2.1')}, 'more than 16 aliases', 2,
        ),
    })  # fmt: skip
    async def test_loop_or_too_long_a_chain_is_an_error(self, resolving, known, says, queries):
        server, resolve = resolving(zone(known))
        with pytest.raises(m.AliasChainTooLong, match=says):
            await resolve('www.example.com', TYPES.A)
        assert len(server.queries) == queries

    async def test_sixteen_aliases_over_all_replies_are_followed(self, resolving):
        _, resolve = resolving(zone({f'n{i}.example': alias(f'n{i + 1}.example') for i in range(16)} | {'n16.example': '192.0.2.1'}))
        assert texts(await resolve('n0.example', TYPES.A)) == ['192.0.2.1']

    @cases('name, shown', {
        'control characters': (r'q\010CRITICAL\032disk\027[2J.example', r'q\010critical\032disk\027[2j.example'),
        'NUL, DEL and beyond ASCII': (r'\000\127\255.example', r'\000\127\255.example'),
        'backslash': (r'\092010.example', r'\092010.example'),
        'root': ('', '.'),
    })  # fmt: skip
    async def test_alias_of_odd_octets_is_shown_as_in_zone_files(self, nameserver, caplog, name, shown):  # RFC 1035 §5.1
        server = nameserver(alias(name), refused)
        with system(server) as resolve, caplog.at_level(logging.DEBUG):
            error = await error_of(resolve('www.example.com', TYPES.A))
        assert str(error).startswith(f'www.example.com A (an alias: {shown}): {server.text}')
        assert any(f'{shown} A: ' in message for message in caplog.messages)
        assert all(message.isprintable() for message in caplog.messages)

    @cases('replies, error, says', {
        'SERVFAIL': ([alias('b.example'), servfail], m.ResponseCodeError, '(an alias: b.example): {} answered SERVFAIL'),
        'closed': ([first_then(alias('b.example'), dies)], m.NameserverRefused, '(an alias: b.example): {} refused: nothing listens there'),
        'NXDOMAIN after two': (
            [alias('b.example'), alias('c.example'), nxdomain], m.NameDoesNotExist,
            '(an alias: b.example → c.example): does not exist: {} answered NXDOMAIN',
        ),
        'NXDOMAIN in one reply': (
            [reply('? 20 IN CNAME b.example.', authority=[SOA], rcode=3)], m.NameDoesNotExist,
            '(an alias: b.example): does not exist: {} answered NXDOMAIN',
        ),
    })  # fmt: skip
    async def test_error_behind_aliases_shows_the_way(self, resolving, replies, error, says):
        server, resolve = resolving(*replies, times=1)
        raised = await error_of(resolve('www.example.com', TYPES.A))
        assert (type(raised), str(raised)) == (error, f'www.example.com A {says.format(server.text)}')
        assert isinstance(raised.__cause__, ConnectionRefusedError) == (error is m.NameserverRefused)


class TestSearchList:
    """The search list of resolv.conf(5)."""

    @cases('name, options, answers, asked', {
        'last candidate': ('db', '', {'db': '192.0.2.1'}, 'db.a.example db.b.example db'),
        'candidate without records': ('db', '', {'db.a.example': nodata, 'db.b.example': '192.0.2.1'}, 'db.a.example db.b.example'),
        'ndots of none': ('db', 'ndots:0', {'db.a.example': '192.0.2.1'}, 'db db.a.example'),
        'final dot': ('db.', '', {'db': '192.0.2.1'}, 'db'),
        'a dot within': ('db.c', '', {'db.c.b.example': '192.0.2.1'}, 'db.c db.c.a.example db.c.b.example'),
        'a dot within, ndots of two': ('db.c', 'ndots:2', {'db.c': '192.0.2.1'}, 'db.c.a.example db.c.b.example db.c'),
    })  # fmt: skip
    async def test_relative_name_is_tried_in_order(self, nameserver, name, options, answers, asked):
        server = nameserver(zone(answers))
        with system(server, search='a.example b.example', options=options) as resolve:
            assert texts(await resolve(name, TYPES.A)) == ['192.0.2.1']
        assert server.names == asked.split()

    @cases('qtype', {'A': TYPES.A, 'both families': BOTH})
    @cases('error', {
        'SERVFAIL': servfail, 'lame': lame, 'unreadable': edited(lambda data: bytes(data[:-1])),
        'SERVFAIL after another case': first_then(wrong_case, servfail),
    })  # fmt: skip
    async def test_next_candidate_is_tried_after_errors_of_all_nameservers(self, nameserver, error, qtype):
        known = zone({'db.a.example': error, 'db.b.example': by(A=a('192.0.2.1'), AAAA=nodata)})
        with system(nameserver(known), nameserver(known, address='127.0.0.2'), search='a.example b.example') as resolve:
            assert (await result_of(resolve('db', qtype)), now()) == (['192.0.2.1'], 1000)

    @cases('qtype', {'A': TYPES.A, 'both families': BOTH})
    @cases('replies, search, error, says, asked', {
        'silence to the first candidate': ([[silence]], 'a.example b.example', m.ResolverTimeout, 'timed out', 'db.a.example'),
        'silence to the second candidate': ([[silence]], 'b.example a.example', m.ResolverTimeout, 'timed', 'db.b.example db.a.example'),
        'silence of one nameserver': ([[silence], [servfail]], 'a.example', m.ResponseCodeError, 'timed out.*SERVFAIL', 'db.a.example'),
        'reply cut to nothing': ([[truncated_and_empty]], 'a.example b.example', m.AnswerTooLong, TOO_LONG, 'db.a.example'),
        'refused connection': ([[]], 'a.example', m.NameserverRefused, ': ', ''),
    })  # fmt: skip
    async def test_candidate_whose_truth_is_not_known_ends_the_look_up(self, nameserver, replies, search, error, says, asked, qtype):
        known = [[zone({'db.a.example': reply}) for reply in given] for given in replies]
        servers = [nameserver(*given, address=f'127.0.0.{i}') for i, given in enumerate(known, start=1)]
        with system(*servers, search=search, options='timeout:1 attempts:1') as resolve:
            with pytest.raises(error, match=f'^db.a.example A.*{says}'):
                await resolve('db', qtype)
        assert list(dict.fromkeys(servers[-1].names)) == asked.split()

    @cases('replies, error, says', {  # of db.a.example, db.b.example and db
        'errors, then NXDOMAIN': (
            [servfail, nxdomain, nxdomain], m.ResponseCodeError,
            r'db.a.example A: \S+ answered SERVFAIL \(2 times\); also tried, by the search list: db.b.example \(\S+ .* NXDOMAIN\), db \(',
        ),
        'two candidates with errors': (
            [servfail, refused, nxdomain], m.ResponseCodeError,
            r'db.b.example A: \S+ answered REFUSED \(2 times\); also .*: db.a.example \(\S+ answered SERVFAIL \(2 times\)\), db ',
        ),
        'errors, then silence': ([servfail, servfail, silence], m.ResolverTimeout, r'db A: \S+ timed out'),
        'NXDOMAIN, then errors': ([nxdomain, servfail, nxdomain], m.ResponseCodeError, 'db.b.example A: .*SERVFAIL'),
        'NODATA, then errors': ([nodata, nxdomain, servfail], m.ResponseCodeError, 'db A: .*SERVFAIL'),
        'NODATA, then NXDOMAIN': ([nodata, nxdomain, nxdomain], m.NoRecords, 'db.a.example A: has no such record'),
        'NXDOMAIN, then NODATA': ([nxdomain, nodata, nxdomain], m.NoRecords, 'db.b.example A: has no such record'),
        'NXDOMAIN, then NODATA to the name as given': (
            [nxdomain, nxdomain, nodata], m.NoRecords,
            r'db A: has no such record: (\S+) answered with no such record;.*: db.a.example \(\1 answered NXDOMAIN\), db.b.example \(.*\)$',
        ),
    })  # fmt: skip
    async def test_error_is_temporary_if_one_was_and_else_says_whether_a_candidate_exists(self, nameserver, replies, error, says):
        server = nameserver(zone(dict(zip(('db.a.example', 'db.b.example', 'db'), replies, strict=True))))
        with system(server, search='a.example b.example') as resolve:
            for _ in range(2):  # the second time in part from the cache
                with pytest.raises(error, match='^' + says):
                    await resolve('db', TYPES.A)

    async def test_error_is_that_of_the_name_as_given_where_no_candidate_exists(self, nameserver):
        with system(nameserver(nxdomain), search='a.example') as resolve:
            for name in ('db', 'db.c'):  # of which the first is tried last as it is given, and the second first
                with pytest.raises(m.NameDoesNotExist, match=f'^{name} A: does not exist: '):
                    await resolve(name, TYPES.A)

    def test_failures_of_two_types_are_counted_as_often_as_the_more_frequent(self):
        at, servfail_ = m.to_nameserver('192.0.2.1', 53), m.Failure(m.ResponseCodeError, 'answered SERVFAIL', 2)
        timed_out = m.Failure(m.ResolverTimeout, 'timed out after 0.5 s')
        often = m.Failures({(at, timed_out): 5}, (7, timed_out))
        seldom = m.Failures({(at, timed_out): 1, (at, servfail_): 1}, (6, servfail_))
        for merged in m.merge(often, seldom), m.merge(seldom, often):
            assert '192.0.2.1:53 timed out after 0.5 s (5 times)' in merged.reason
            assert type(merged.error(merged.reason)) is m.ResolverTimeout  # the last that happened

    def test_want_of_a_nameserver_to_ask_ends_the_look_up(self):
        assert not m.Failures({}).are_error_replies()

    @in_both_orders
    @cases('replies, ndots, error, says', {
        'bad data beside NXDOMAIN': (by(A=bad_address, AAAA=nxdomain), 1, m.BadAddress, '^db.a.example A.*: .* an A record of 3 octets'),
        'silence beside an error': (zone({'db': by(A=silence, AAAA=servfail)}, by(A=four, AAAA=six)), 0, m.ResolverTimeout, '^db A.*: '),
    })  # fmt: skip
    async def test_failure_of_one_type_ends_the_search(self, nameserver, types, replies, ndots, error, says):
        with system(nameserver(replies), search='a.example', options=f'ndots:{ndots}') as resolve:
            with pytest.raises(error, match=says):
                await resolve('db', types)

    @cases(
        'replies, ends_at',
        {
            'in time': (after(0.1, servfail), 1000.2),
            'later than its timeout': (after(0.7, servfail), 1001.5),
        },
    )
    async def test_domain_with_error_replies_is_passed_over(self, nameserver, replies, ends_at):
        with system(nameserver(zone({'db.b.example': four}, replies)), search='a.example b.example') as resolve:
            assert texts(await resolve('db', TYPES.A)) == ['192.0.2.1']
        assert now() == ends_at

    @cases('qtype', {'A': TYPES.A, 'both families': BOTH})
    async def test_nameserver_that_cannot_be_reached_ends_the_look_up(self, nameserver, fake_sockets, qtype):
        fake_sockets(sending=raises(errno.ENETUNREACH))
        with system(nameserver(four), search='a.example b.example') as resolve:
            with pytest.raises(m.NameserverUnreachable, match='^db.a.example A.*: Network is unreachable [^;]*$'):
                await resolve('db', qtype)

    async def test_domain_of_the_machine_is_not_searched(self, nameserver, monkeypatch):
        for function in ('gethostname', 'getfqdn'):
            monkeypatch.setattr(socket, function, lambda *_: 'web.corp.example')
        server = nameserver(a('192.0.2.1'))
        with system(server) as resolve:
            await resolve('db', TYPES.A)
        assert server.names == ['db']


def docker(query):
    """Containers have addresses of IPv4, for 600 s, cut off at 512 octets. Of IPv6 they have none, without an SOA (moby, resolver.go)."""
    big = reply(*(f'? 600 IN A {address}' for address in BIG[:30]), flags=dns.flags.RA | dns.flags.TC)
    known = {name: by(A=found, AAAA=nodata_without_soa) for name, found in {'web': a('172.18.0.2', ttl=600), 'big': big}.items()}
    return zone({**known, 'www.example.com': '192.0.2.1'})(query)


# Services have TTL 5, and what does not exist does not for 5 s (CoreDNS, plugin kubernetes).
CLUSTER = {
    'db.prod.svc.cluster.local': a('10.96.0.7', ttl=5),
    'api.other.svc.cluster.local': a('10.96.0.8', ttl=5),
    'www.example.com': '192.0.2.1',
}
CLUSTER_SOA = 'cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5'


class TestContainers:
    """Nameservers that behave as Docker's and Kubernetes' do."""

    @cases('name, addresses', {
        'container': ('web', ['172.18.0.2']), 'other name': ('www.example.com', ['192.0.2.1']),
        'truncated reply': ('big', BIG[:30]),  # TC with records in it is an answer
    })  # fmt: skip
    async def test_docker_is_asked_once(self, nameserver, name, addresses):
        server = nameserver(docker, address='127.0.0.11')
        with system(server, options='ndots:0', search='lan.example') as resolve:  # Docker copies what the host searches
            assert texts(await resolve(name, TYPES.A)) == addresses
        assert server.names == [name]

    async def test_docker_without_ipv6_is_not_cached_nor_in_the_way(self, nameserver):
        server = nameserver(docker, address='127.0.0.11')
        with system(server, options='ndots:0') as resolve:
            for _ in range(3):
                assert [await result_of(resolve('web', qtype)) for qtype in BOTH] == [['172.18.0.2'], m.NoRecords]
        assert server.types == [1, 28, 28, 28]

    @cases('name, queries, last', {
        'service': ('db', 1, 'db.prod.svc.cluster.local'),
        'service of another namespace': ('api.other', 2, 'api.other.svc.cluster.local'),
        'whole name': ('db.prod.svc.cluster.local', 4, 'db.prod.svc.cluster.local'),
        'whole name with a final dot': ('db.prod.svc.cluster.local.', 1, 'db.prod.svc.cluster.local'),
        'other name': ('www.example.com', 4, 'www.example.com'),
    })  # fmt: skip
    async def test_kubernetes_is_asked_by_its_search_list(self, nameserver, name, queries, last):
        server = nameserver(zone(CLUSTER, otherwise=reply(authority=[CLUSTER_SOA], rcode=3)))
        with system(server, search='prod.svc.cluster.local svc.cluster.local cluster.local', options='ndots:5') as resolve:
            for _ in range(2):  # neither what exists nor what does not is asked for again
                await resolve(name, TYPES.A)
                assert (len(server.queries), server.names[-1]) == (queries, last)
            await asyncio.sleep(5)
            await resolve(name, TYPES.A)
        assert len(server.queries) == 2 * queries - (last == 'www.example.com')  # whose own TTL is longer


class TestCache:
    """Answers, until they expire."""

    async def test_answer_is_cached_until_it_expires_and_comes_without_a_yield(self, resolving, get_host):
        server, resolve = resolving(a('192.0.2.1', ttl=20), get_host=get_host)
        first = await resolve('www.example.com', TYPES.A)
        await asyncio.sleep(19.75)
        with pytest.raises(StopIteration) as stopped:
            resolve('WWW.Example.com.', TYPES.A).send(None)
        assert stopped.value.value is first
        assert len(server.queries) == 1
        await asyncio.sleep(0.25)
        await resolve('www.example.com', TYPES.A)
        assert len(server.queries) == 2

    async def test_get_host_is_asked_before_the_cache(self, resolving):
        get_host = Hosts()
        server, resolve = resolving(a('192.0.2.1'), get_host=get_host)
        for found, expected in ((None, '192.0.2.1'), (ipaddress.ip_address('192.0.2.7'), '192.0.2.7'), (None, '192.0.2.1')):
            get_host.found = found
            assert texts(await resolve('www.example.com', TYPES.A)) == [expected]
        assert len(server.queries) == 1

    @cases('size, asked, queries', {  # letters: names of which n does not exist and z has TTL 0; a dot: a pause in which all expires
        'the least recently used goes first': (2, 'abacab', 'abcb'),
        'the one that was asked for again was used last': (2, 'ab.aca', 'abac'),
        'capital letters are no other name': (1, 'aAaA', 'a'),
        'name that does not exist takes a place': (1, 'annan', 'anan'),
        'name that does not exist was used when it was asked for again': (2, 'nanbn', 'nab'),
        'TTL 0 takes none': (1, 'azaza', 'azz'),
        'no place': (0, 'aab', 'aab'),
    })  # fmt: skip
    async def test_so_many_answers_are_cached(self, resolving, get_host, size, asked, queries):
        replies = zone({'n.example': nxdomain, 'z.example': a('192.0.2.1', ttl=0)}, otherwise=a('192.0.2.1'))
        server, resolve = resolving(replies, get_host=get_host, max_cache_size=size)
        for name in asked:
            if name == '.':
                await asyncio.sleep(20)
            else:
                await result_of(resolve(f'{name}.example', TYPES.A))
        assert server.names == [f'{name}.example' for name in queries]

    @cases('given, error, seconds', {
        'NXDOMAIN': (reply(authority=[SOA_TTL_3], rcode=3), m.NameDoesNotExist, 3),
        'NODATA': (reply(authority=[SOA_TTL_3]), m.NoRecords, 3),
        'NXDOMAIN for long': (nxdomain, m.NameDoesNotExist, 10),  # at most so long, as the JVM: a container that starts is soon found
        'NODATA for long': (nodata, m.NoRecords, 10),
        'NODATA without an SOA': (nodata_without_soa, m.NoRecords, 0),
        'NXDOMAIN without an SOA': (reply(rcode=3), m.NameDoesNotExist, 0),
        'NXDOMAIN, truncated': (reply(authority=[SOA], rcode=3, flags=dns.flags.TC), m.NameDoesNotExist, 0),
        'SERVFAIL': (servfail, m.ResponseCodeError, 0),
    })  # fmt: skip
    async def test_negative_answer_is_cached_as_long_as_its_soa_says(self, resolving, get_host, given, error, seconds):  # RFC 2308 §5
        server, resolve = resolving(given, get_host=get_host, times=1)
        says = {
            m.NameDoesNotExist: f'does not exist: {server.text} answered NXDOMAIN',
            m.NoRecords: f'has no such record: {server.text} answered with no such record',
            m.ResponseCodeError: f'{server.text} answered SERVFAIL',
        }
        for pause in [0, seconds - 0.25, 0.25] if seconds else [0, 0]:
            await asyncio.sleep(pause)
            raised = await error_of(resolve('www.example.com', TYPES.A))
            assert (type(raised), str(raised)) == (error, f'www.example.com A: {says[error]}')
        assert len(server.queries) == 2

    async def test_ten_thousand_answers_are_cached_by_default(self, resolving):
        server, resolve = resolving(a('192.0.2.1'))
        for i in (*range(10_001), 1):
            await resolve(f'n{i}.example', TYPES.A)
        assert len(server.queries) == 10_001
        await resolve('n0.example', TYPES.A)
        assert len(server.queries) == 10_002

    @cases('conf, queries', {
        'other nameserver': ('nameserver 127.0.0.2\nsearch lan.example', 4),
        'nameserver more': ('nameserver 127.0.0.1\nnameserver 127.0.0.2\nsearch lan.example', 4),
        'other search list': ('nameserver 127.0.0.1\nsearch example', 4),
        'other option': ('nameserver 127.0.0.1\nsearch lan.example\noptions timeout:3', 2),
        'other comment': ('# as before\nnameserver 127.0.0.1\nsearch lan.example', 2),
    })  # fmt: skip
    async def test_cache_is_emptied_when_resolv_conf_names_others(self, nameserver, monkeypatch, tmp_path, conf, queries):
        servers = [nameserver(zone({'db.example': four}), address=address) for address in ('127.0.0.1', '127.0.0.2')]
        path, ports = tmp_path / 'resolv.conf', {server.at[0]: server.at for server in servers}
        monkeypatch.setattr(m, 'RESOLV_CONF', str(path))
        with redirected(lambda ip, _: ports[ip]):
            resolve, _ = Resolver(no_host)
            for text in ('nameserver 127.0.0.1\nsearch lan.example', conf):
                path.write_text(text)
                await asyncio.sleep(1)
                for _ in range(2):
                    assert await result_of(resolve('db.example', TYPES.A)) == ['192.0.2.1']
                    assert await result_of(resolve('gone.example.', TYPES.A)) is m.NameDoesNotExist
        assert sum(len(server.queries) for server in servers) == queries

    async def test_query_in_flight_when_cleared_goes_on_without_its_first_caller(self, nameserver):
        server = nameserver(after(0.3, a('192.0.2.1')), after(0.2, a('192.0.2.2')))
        resolve, clear_cache = resolver_for(server)
        first, other = start(*(resolve('www.example', TYPES.A) for _ in range(2)))
        await asyncio.sleep(0.1)
        assert clear_cache() is None
        first.cancel()
        await asyncio.sleep(0.1)
        (later,) = start(resolve('www.example', TYPES.A))  # which does not join it
        assert (texts(await other), now()) == (['192.0.2.1'], pytest.approx(1000.3))
        for _ in range(2):  # the first time it joins the later one, which is in flight still
            assert texts(await resolve('www.example', TYPES.A)) == ['192.0.2.2']
        assert (texts(await later), server.times) == (['192.0.2.2'], pytest.approx([1000, 1000.2]))

    @cases('old, options, outage, expected', {
        'an address in flight': (after(1.5, a('192.0.2.66')), {}, None, ['192.0.2.1']),
        'a denial in flight': (after(1.5, nxdomain), {}, None, ['192.0.2.1']),
        'a stale answer': (a('192.0.2.66', ttl=0), {'stale_for': 600}, servfail, m.ResponseCodeError),
    })  # fmt: skip
    async def test_nothing_of_other_nameservers_is_given_after_resolv_conf_has_changed(
        self, nameserver, monkeypatch, tmp_path, old, options, outage, expected
    ):
        before, new = nameserver(old), nameserver(outage or four, address='127.0.0.2')
        path, ports = tmp_path / 'resolv.conf', {server.at[0]: server.at for server in (before, new)}
        monkeypatch.setattr(m, 'RESOLV_CONF', str(path))
        path.write_text('nameserver 127.0.0.1\noptions timeout:5')
        with redirected(lambda ip, _: ports[ip]):
            resolve, _ = Resolver(no_host, **options)
            (looking,) = start(result_of(resolve('www.example', TYPES.A)))
            await asyncio.sleep(0.5)
            path.write_text('nameserver 127.0.0.2')
            await asyncio.sleep(0.6)  # the change is seen by the next look-up
            assert await result_of(resolve('www.example', TYPES.A)) == expected  # not joined
            await looking
            assert await result_of(resolve('www.example', TYPES.A)) == expected  # not cached

    @cases('name, qtype, expected', {
        'host': ('host', TYPES.A, ['192.0.2.9']), 'host of both types': ('host', BOTH, ['192.0.2.9']), 'literal': ('192.0.2.8', TYPES.A, ['192.0.2.8']),
        'localhost': ('localhost', BOTH, ['127.0.0.1', '::1']), 'onion': ('x.onion', TYPES.A, m.NameDoesNotExist),
        'denial': ('gone.example.', TYPES.A, m.NameDoesNotExist), 'both types': ('www.example.', BOTH, ['192.0.2.1', '2001:db8::1']),
        'alias': ('alias.example.', TYPES.A, ['192.0.2.1']), 'second candidate': ('db', TYPES.A, ['192.0.2.1']),
        'silent type': ('four.example.', BOTH, ['192.0.2.1']),
    })  # fmt: skip
    async def test_what_is_known_comes_without_a_yield(self, nameserver, name, qtype, expected):
        known = {
            'gone.example': nxdomain,
            'db.a.example': nxdomain,
            'alias.example': alias('www.example'),
            'four.example': by(A=four, AAAA=silence),
        }
        with system(
            nameserver(zone(known, otherwise=by(A=four, AAAA=six))), search='a.example b.example', hosts='192.0.2.9 host'
        ) as resolve:
            for _ in range(2):
                await result_of(resolve(name, qtype))
            with pytest.raises(StopIteration) as stopped:
                result_of(resolve(name, qtype)).send(None)
        assert stopped.value.value == expected

    async def test_answer_is_returned_in_the_step_after_the_one_in_which_its_reply_is_read(self, resolving, monkeypatch):
        read = []
        monkeypatch.setattr(
            m.Cache, 'keep', lambda self, question, outcome: read.append(loop.call_soon(loop.call_soon, read.append, 'too late'))
        )
        loop, (_, resolve) = asyncio.get_running_loop(), resolving(four)
        await resolve('www.example', TYPES.A)
        assert len(read) == 1


async def asked_in_an_outage(server, resolve, pause=0, name='www.example.com', qtype=TYPES.A, outage=silence):
    """What a look-up gives after a pause, when its nameservers do not answer any more: texts, or the class of the error."""
    await asyncio.sleep(pause)
    before, server.replies[:] = server.replies[:], [outage]
    try:
        return await result_of(resolve(name, qtype))
    finally:
        server.replies[:] = before


class TestStaleAnswers:
    """Answers that are given after they have expired, where no nameserver answers (RFC 8767)."""

    async def test_expired_answer_is_given_and_told_until_there_is_another(self, resolving, caplog):
        server, resolve = resolving(a('192.0.2.1'), stale_for=60)
        await resolve('www.example.com', TYPES.A)
        await asyncio.sleep(21)
        server.replies[:] = [silence]
        for _ in range(2):
            (address,) = await resolve('www.example.com', TYPES.A)
            assert (str(address), address.expires_at) == ('192.0.2.1', 1020)
        server.replies[:] = [a('192.0.2.2')]
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.2']
        assert [record.levelname for record in caplog.records] == ['WARNING']
        says = rf'www.example.com A: {re.escape(server.text)} timed out .*; what was true before is given \(stale_for\)'
        assert re.fullmatch(says, caplog.messages[0])

    async def test_it_is_said_again_after_thirty_seconds(self, resolving, caplog):
        server, resolve = resolving(a('192.0.2.1', ttl=1), stale_for=600)
        await results_of(resolve, 5)
        await asyncio.sleep(2)
        server.replies[:] = [servfail]
        assert await result_of(resolve('unknown.example', TYPES.A)) is m.ResponseCodeError  # of which there is nothing to be said
        for i in range(5):
            await resolve(f'n{i}.example', TYPES.A)
            await asyncio.sleep(10)
        assert [message[:12] for message in caplog.messages] == ['n0.example A', 'n3.example A']

    @cases('options, pause, expected', {
        'by default': ({}, 21, m.ResolverTimeout),
        'at its end': ({'stale_for': 60}, 77.5, V4),  # the look-up takes 2.5 s
        'after its end': ({'stale_for': 60}, 77.6, m.ResolverTimeout),
    })  # fmt: skip
    async def test_it_is_given_so_long_after_it_expired(self, resolving, options, pause, expected):
        server, resolve = resolving(a('192.0.2.1'), **options)
        await resolve('www.example.com', TYPES.A)
        assert await asked_in_an_outage(server, resolve, pause) == expected

    @pytest.mark.parametrize('denial', [nxdomain, nodata, nodata_without_soa])
    async def test_answer_that_there_is_none_ends_it(self, resolving, denial):
        server, resolve = resolving(a('192.0.2.1', ttl=0), denial, stale_for=60)
        await resolve('www.example.com', TYPES.A)
        for _ in range(2):
            assert await result_of(resolve('www.example.com', TYPES.A)) in (m.NameDoesNotExist, m.NoRecords)
        assert await asked_in_an_outage(server, resolve, 30) is m.ResolverTimeout

    @cases('found, asked, outage, asked_again, expected', {
        'TTL 0': (a('192.0.2.1', ttl=0), TYPES.A, silence, TYPES.A, V4),
        'alias in one reply': (reply('? 5 IN CNAME b.example.', 'b.example. 90 IN A 192.0.2.1'), TYPES.A, silence, TYPES.A, V4),
        'alias': (zone({'www.example.com': alias('b.example'), 'b.example': '192.0.2.1'}), TYPES.A, silence, TYPES.A, V4),
        'both families': (by(A=four, AAAA=six), BOTH, silence, BOTH, V4_V6),
        'both families, the other first': (by(A=four, AAAA=six), BOTH[::-1], silence, BOTH[::-1], V6 + V4),
        'one family': (by(A=nodata, AAAA=six), BOTH, silence, BOTH, V6),
        'A of both families': (by(A=four, AAAA=six), BOTH, silence, TYPES.A, V4),
        'AAAA of both families': (by(A=four, AAAA=six), BOTH, silence, TYPES.AAAA, V6),
        'text': (reply('? 5 IN TXT "some"'), TYPES.TXT, silence, TYPES.TXT, ["b'some'"]),
        'in place of SERVFAIL': (four, TYPES.A, servfail, TYPES.A, V4),
        'in place of REFUSED': (four, TYPES.A, refused, TYPES.A, V4),
        'in place of a lame reply': (four, TYPES.A, lame, TYPES.A, V4),
        'not in place of a bad address': (four, TYPES.A, bad_address, TYPES.A, m.BadAddress),
        'not in place of what is cut to nothing': (four, TYPES.A, truncated_and_empty, TYPES.A, m.AnswerTooLong),
    })  # fmt: skip
    async def test_it_is_what_the_look_up_gave(self, resolving, found, asked, outage, asked_again, expected):
        server, resolve = resolving(found, stale_for=600)
        await resolve('www.example.com', asked)
        assert await asked_in_an_outage(server, resolve, 301, qtype=asked_again, outage=outage) == expected

    @cases('known, asked, outage, expected', {
        'the first that had one': ({'db.b.example': '192.0.2.2', 'db': '192.0.2.3'}, ['db.', 'db'], silence, ['192.0.2.2']),
        'none, of another name': ({'db.b.example': '192.0.2.2'}, ['db.b.example'], silence, m.ResolverTimeout),
        'none, since it is denied': ({'db.a.example': '192.0.2.1'}, ['db'], zone({'db.a.example': nxdomain}, silence), m.ResolverTimeout),
    })  # fmt: skip
    async def test_it_is_that_of_a_candidate(self, nameserver, known, asked, outage, expected):
        server = nameserver(zone({'db.a.example': nxdomain, **known}))
        with system(server, search='a.example b.example'):
            resolve, _ = Resolver(stale_for=600)
            for name in asked:
                await resolve(name, TYPES.A)
            assert await asked_in_an_outage(server, resolve, 30, name='db', outage=outage) == expected

    @cases('clears_after', {'in flight': 0.1, 'later': 0.3})
    async def test_clear_cache_forgets_it(self, nameserver, clears_after):
        server = nameserver(after(0.2, a('192.0.2.1')))
        resolve, clear_cache = resolver_for(server, stale_for=60)
        asyncio.get_running_loop().call_later(clears_after, clear_cache)
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert await asked_in_an_outage(server, resolve, 0.2) is m.ResolverTimeout

    async def test_denial_that_only_the_cache_had_ends_it(self, nameserver):
        server = nameserver(a('192.0.2.1', ttl=1), nxdomain)
        resolve = Resolver(get_nameservers=rounds(server), stale_for=600)[0]
        await resolve('www.example.com', TYPES.A)
        await asyncio.sleep(2)
        (looking,) = start(resolve('www.example.com', TYPES.A))
        await asyncio.sleep(0)
        server.read()
        await asyncio.sleep(0)
        await end(looking)  # in the step in which the reply is read
        for expected in (m.NameDoesNotExist, m.ResolverTimeout):
            assert await asked_in_an_outage(server, resolve, 5) is expected
            await asyncio.sleep(20)

    async def test_what_a_hook_gave_is_not_kept(self, resolving):
        hosts = Hosts(ipaddress.ip_address('192.0.2.9'))
        _, resolve = resolving(silence, get_host=hosts, stale_for=60)
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.9']
        hosts.found = None
        assert await result_of(resolve('www.example.com', TYPES.A)) is m.ResolverTimeout

    async def test_as_many_are_kept_as_answers_are_cached_those_given_last(self, resolving):
        server, resolve = resolving(a('192.0.2.1', ttl=0), stale_for=60, max_cache_size=2)
        for name in 'abac':
            await resolve(f'{name}.example', TYPES.A)
        found = [await asked_in_an_outage(server, resolve, name=f'{name}.example', outage=servfail) for name in 'abc']
        assert found == [['192.0.2.1'], m.ResponseCodeError, ['192.0.2.1']]

    @in_both_orders
    async def test_both_families_are_of_one_candidate(self, nameserver, types):
        server = nameserver(zone({'x.a.example': by(A=four, AAAA=nodata), 'x.b.example': by(A=nodata, AAAA=six)}))
        with system(server, search='a.example b.example'):
            resolve, _ = Resolver(stale_for=600)
            for qtype in (*BOTH, types):
                await resolve('x', qtype)
            assert await asked_in_an_outage(server, resolve, 301, name='x', qtype=types) == ['192.0.2.1']

    @cases(
        'name, asked_before',
        {
            'another spelling': ('x.a.example', 'x'),
            'the end of an alias': ('b.example', 'www.example'),
        },
    )
    async def test_answer_that_the_cache_had_is_one(self, nameserver, name, asked_before):
        server = nameserver(zone({'x.a.example': four, 'www.example': alias('b.example', ttl=300), 'b.example': four}))
        with system(server, search='a.example'):
            resolve, _ = Resolver(stale_for=600)
            for each in (asked_before, name):
                assert texts(await resolve(each, TYPES.A)) == ['192.0.2.1']
            assert await asked_in_an_outage(server, resolve, 301, name=name) == ['192.0.2.1']

    async def test_each_type_is_given_so_long_after_its_own_expiry(self, resolving):
        server, resolve = resolving(by(A=a('192.0.2.1', ttl=10), AAAA=a('2001:db8::1', ttl=40)), stale_for=60)
        await resolve('www.example.com', BOTH)
        for pause, expected in ((65, ['192.0.2.1', '2001:db8::1']), (10, ['2001:db8::1'])):
            assert await asked_in_an_outage(server, resolve, pause, qtype=BOTH, outage=servfail) == expected


aliased_six = reply('? 9 IN CNAME b.example.', 'b.example. 20 IN AAAA 2001:db8::1')


class TestBothFamilies:
    """`resolve(name, (TYPES.A, TYPES.AAAA))`: both families of one name."""

    async def test_missing_type_is_asked_of_the_next_nameserver_to_which_something_can_be_sent(self, nameserver):
        one, two = nameserver(by(A=four, AAAA=silence)), nameserver(by(A=a('192.0.2.66'), AAAA=six))
        resolve = asking((0.5, one.at), (0.5, NO_ROUTE), (0.5, two.at))
        assert (texts(await resolve('www.example', BOTH)), two.types, now()) == (V4_V6, [28], 1000.5)

    @cases('qtypes, expected', {
        'A first': (BOTH, V4_V6), 'AAAA first': (BOTH[::-1], V6 + V4), 'A alone': ((TYPES.A,), V4), 'AAAA alone': ((TYPES.AAAA,), V6),
        'numbers': ((1, 28), V4_V6), 'A twice': ((TYPES.A, TYPES.A), V4),
    })  # fmt: skip
    async def test_addresses_come_in_the_order_of_the_types(self, resolving, get_host, qtypes, expected):
        server, resolve = resolving(by(A=after(0.2, four), AAAA=after(0.1, six)), get_host=get_host)
        for _ in range(3):
            assert texts(await resolve('www.example.com', qtypes)) == expected
        assert len(server.queries) == len(expected)

    async def test_cached_type_is_the_result_where_no_nameserver_is_named_for_the_other(self, nameserver):
        hook = Sets((1, nameserver(four).at))
        resolve, _ = Resolver(no_host, hook)
        await resolve('www.example.com', TYPES.A)
        hook.given = ()
        assert texts(await resolve('www.example.com', BOTH)) == V4

    @cases('known, asked', {
        'NODATA': ({'db.a.test': by(A=nodata, AAAA=six), 'db.b.test': by(A=four, AAAA=nxdomain)}, ['db.a.test'] * 2),
        'NXDOMAIN': ({'db.b.test': by(A=nxdomain, AAAA=six), 'db': by(A=four, AAAA=nodata)}, ['db.a.test'] * 2 + ['db.b.test'] * 2),
    })  # fmt: skip
    async def test_candidate_with_an_address_of_either_type_ends_the_search(self, nameserver, known, asked):
        server = nameserver(zone(known))
        with system(server, search='a.test b.test') as resolve:
            assert texts(await resolve('db', BOTH)) == V6
        assert (server.names, server.types) == (asked, [1, 28] * (len(asked) // 2))

    @cases('name, types, expected', {
        'IPv4 alone': ('api.example.com', BOTH, ['127.0.0.1']), 'both': ('six.lan', BOTH[::-1], ['::1', '127.0.0.2']),
        'localhost': ('localhost', BOTH, ['127.0.0.1', '::1']), 'literal': ('192.0.2.9', BOTH, ['192.0.2.9']),
    })  # fmt: skip
    async def test_hosts_file_answers_for_both(self, nameserver, name, types, expected):
        server = nameserver(by(A=four, AAAA=six))
        with system(server, hosts='127.0.0.1 api.example.com\n::1 six.lan\n127.0.0.2 six.lan') as resolve:
            assert texts(await resolve(name, types)) == expected
        assert server.queries == []

    async def test_get_host_is_asked_for_each_type_in_order(self, resolving):
        get_host = Hosts(AAAA=ipaddress.ip_address('2001:db8::7'))
        _, resolve = resolving(a('192.0.2.1'), get_host=get_host)
        assert texts(await resolve('www.example.com', BOTH)) == ['2001:db8::7']
        assert [qtype for _, qtype in get_host.asked] == [TYPES.A, TYPES.AAAA]

    @cases('four, six, expected, again', {  # again: the queries of a second look-up
        'A, NODATA': (four, nodata, V4, 0),
        'NODATA, AAAA': (nodata, six, V6, 0),
        'A, NODATA without an SOA': (four, nodata_without_soa, V4, 1),
        'A, NXDOMAIN late': (four, after(0.1, nxdomain), V4, 0),
        'NXDOMAIN, AAAA late': (nxdomain, after(0.1, six), V6, 0),
        'A, NXDOMAIN behind an alias': (four, reply('? 20 IN CNAME b.example.', authority=[SOA], rcode=3), V4, 0),
        'A, SERVFAIL': (four, servfail, V4, 0),
        'A, silence': (four, silence, V4, 0),
        'bad address, AAAA': (bad_address, six, V6, 1),
        'bad address late, AAAA': (after(0.1, bad_address), six, V6, 1),
        'A late, bad address': (after(0.1, four), short_six, V4, 1),
        'loop of aliases, AAAA': (aliases_in_a_loop, six, V6, 1),
        'loop of aliases late, AAAA': (after(0.1, aliases_in_a_loop), six, V6, 1),
        'bad address, NODATA': (bad_address, nodata, m.BadAddress, 1),
        'NODATA, bad address': (nodata, short_six, m.BadAddress, 1),
        'NODATA late, bad address': (after(0.1, nodata), short_six, m.BadAddress, 1),
        'NODATA, loop of aliases': (nodata, aliases_in_a_loop, m.AliasChainTooLong, 1),
        'NODATA late, loop of aliases': (after(0.1, nodata), aliases_in_a_loop, m.AliasChainTooLong, 1),
        'NODATA, NODATA': (nodata, nodata, m.NoRecords, 0),
        'NXDOMAIN, NXDOMAIN': (nxdomain, nxdomain, m.NameDoesNotExist, 0),
        'NXDOMAIN, NXDOMAIN late': (nxdomain, after(0.1, nxdomain), m.NameDoesNotExist, 0),
        'NXDOMAIN, NODATA late': (nxdomain, after(0.1, nodata), m.NoRecords, 0),
        'NXDOMAIN late, NODATA': (after(0.1, nxdomain), nodata, m.NoRecords, 0),
        'NODATA, SERVFAIL': (nodata, servfail, m.ResponseCodeError, 1),
        'SERVFAIL, NODATA': (servfail, nodata, m.ResponseCodeError, 1),
        'NXDOMAIN, SERVFAIL': (nxdomain, servfail, m.ResponseCodeError, 1),
        'SERVFAIL, NXDOMAIN': (servfail, nxdomain, m.ResponseCodeError, 1),
        'SERVFAIL, SERVFAIL': (servfail, servfail, m.ResponseCodeError, 2),
    })  # fmt: skip
    @in_both_orders
    async def test_one_type_may_have_what_the_other_has_not(self, resolving, get_host, types, four, six, expected, again):
        server, resolve = resolving(by(A=four, AAAA=six), times=1, get_host=get_host)
        for queries in (2, 2 + again):
            assert await result_of(resolve('www.example.com', types)) == expected
            assert len(server.queries) == queries

    @cases('of_four, of_six, asked, ends_at', {
        'to one name': (alias('b.example', ttl=9), alias('b.example', ttl=9), [('b.example', 1), ('b.example', 28)], 1000.2),
        'to different names': (alias('b.example', ttl=9), alias('c.example', ttl=9), [('b.example', 1), ('c.example', 28)], 1000.3),
        'of which one is in the reply': (alias('b.example', ttl=9), aliased_six, [('b.example', 1)], 1000.2),
    })  # fmt: skip
    async def test_alias_is_followed_for_each_type(self, resolving, of_four, of_six, asked, ends_at):
        known = {'www.example': by(A=of_four, AAAA=of_six), 'b.example': by(A=four, AAAA=six), 'c.example': six}
        server, resolve = resolving(after(0.1, zone(known)))
        for _ in range(2):  # the second time from the cache
            addresses = await resolve('www.example', BOTH)
            assert (texts(addresses), {address.expires_at for address in addresses}) == (V4_V6, {1009})
        assert (asked_types(server)[2:], now()) == (asked, pytest.approx(ends_at))

    @cases('replies', {'of both types': alias('b.example'), 'of one type': by(A=alias('b.example'), AAAA=servfail)})
    @cases('types, names', {'A first': (BOTH, 'A, AAAA'), 'AAAA first': (BOTH[::-1], 'AAAA, A')})
    async def test_alias_is_in_the_error_of_both(self, resolving, types, names, replies):
        server, resolve = resolving(zone({'www.example': replies}, otherwise=servfail), times=1)
        error = await error_of(resolve('www.example', types))
        assert str(error) == f'www.example {names} (an alias: b.example): {server.text} answered SERVFAIL'

    @in_both_orders
    async def test_error_tells_what_happened_to_each_type(self, nameserver, types):
        server = nameserver(by(A=silence, AAAA=servfail))
        with system(server) as resolve:
            error = await error_of(resolve('db.example', types))
        what = [f'{server.text} answered SERVFAIL (2 times)', f'{server.text} timed out after 0.5 s (5 times)']
        assert (type(error), sorted(str(error).partition(': ')[2].split('; '))) == (m.ResolverTimeout, what)

    async def test_with_fewer_sockets_than_queries_the_types_take_turns(self, nameserver):
        silent, server = nameserver(silence), nameserver(by(A=silence, AAAA=six))
        assert texts(await asking(*[(1, silent.at, server.at)] * 4, max_sockets=3)('www.example', BOTH)) == ['2001:db8::1']
        assert (server.times[server.types.index(28)], now()) == (1001, 1003)  # asked in the second set; A is waited for one set more

    async def test_one_socket_serves_each_type_in_turn(self, resolving):
        server, resolve = resolving(by(A=silence, AAAA=six), max_sockets=1)
        found = await asyncio.gather(*(resolve('db.example', qtype) for qtype in (BOTH, TYPES.AAAA)))
        assert [texts(addresses) for addresses in found] == [['2001:db8::1']] * 2
        assert server.types[:2] == [1, 28]

    async def test_type_not_asked_for_want_of_a_socket_says_so(self, nameserver):
        resolve = asking((0.5, nameserver(silence).at), max_sockets=1)
        both, single = await asyncio.gather(*(error_of(resolve('db.example', qtype)) for qtype in (BOTH, TYPES.AAAA)))
        assert (type(both), type(single)) == (m.ResolverTimeout, m.TemporaryResolverError)
        assert 'timed out after 0.5 s' in str(both)
        assert 'no nameserver was asked' in str(single)

    @cases('replies, look_ups, types, ends_at', {  # look-ups: seconds of a pause, the types, what is found
        'all its tries without addresses': (by(A=nodata, AAAA=first_of(silence, silence, six)), [(0, BOTH, V6)], [1, 28, 28, 28], 1001),
        'cached beside it': (by(A=four, AAAA=six), [(0, TYPES.A, V4), (0, BOTH, V4_V6)], [1, 28], 1000),
        'lost, cached beside it': (by(A=four, AAAA=first_of(silence, six)), [(0, TYPES.A, V4), (0, BOTH, V4_V6)], [1, 28, 28], 1000.5),
        'first to expire': (
            by(A=a('192.0.2.1', ttl=9), AAAA=a('2001:db8::1', ttl=2)),
            [(0, BOTH, V4_V6), (1.5, BOTH, V4_V6), (0.6, BOTH[::-1], V6 + V4)], [1, 28, 28], 1002.1,
        ),
        'silent beside a late answer': (by(A=after(0.7, four), AAAA=silence), [(0, BOTH, V4)], [1, 28, 1, 28, 28], 1001.5),
        'silent, then asked for alone': (
            by(A=four, AAAA=first_of(*[silence] * 7, six)),
            [(0, BOTH, V4), (0, TYPES.AAAA, m.ResolverTimeout), (0, TYPES.AAAA, V6), (0, BOTH, V4_V6)], [1] + [28] * 8, 1003.5,
        ),
        'silent beside what expires': (by(A=a('192.0.2.1', ttl=3), AAAA=silence), [(0, BOTH, V4), (4, BOTH, V4)], [1, 28, 28, 1], 1005),
        'silent beside what is none any more': (  # which the second time is an error from the cache
            by(A=first_of(a('192.0.2.1', ttl=1), nodata), AAAA=silence),
            [(0, BOTH, V4), (1, BOTH, m.ResolverTimeout), (1, BOTH, m.ResolverTimeout)], [1, 28, 28, 1], 1003,
        ),
        'silent beside an alias to another name': (
            zone({'www.example': by(A=alias('b.example', ttl=300), AAAA=silence), 'b.example': by(A=four, AAAA=nodata)}),
            [(0, BOTH, V4)] * 3, [1, 28, 28, 1], 1001,
        ),
        'silent beside NXDOMAIN to AAAA': (by(A=silence, AAAA=nxdomain), [(0, BOTH, m.ResolverTimeout)], [1, 28, 1, 1, 1, 1], 1002.5),
        'silent beside NXDOMAIN to A': (by(A=nxdomain, AAAA=silence), [(0, BOTH, m.ResolverTimeout)], [1, 28, 28, 28, 28, 28], 1002.5),
        'NODATA later than the timeout': (
            by(A=four, AAAA=after(0.6, nodata)), [(0, TYPES.A, V4), (0, BOTH, V4), (0, BOTH, V4)], [1, 28, 28], 1000.6,
        ),
        'late after NXDOMAIN to AAAA': (by(A=after(0.7, four), AAAA=nxdomain), [(0, BOTH, V4)], [1, 28, 1], 1000.7),
        'late after NXDOMAIN to A': (by(A=nxdomain, AAAA=after(0.7, six)), [(0, BOTH, V6)], [1, 28, 28], 1000.7),
        'found beside NXDOMAIN to AAAA': (
            by(A=four, AAAA=nxdomain), [(0, BOTH, V4), (0, TYPES.A, V4), (0, TYPES.AAAA, m.NameDoesNotExist)], [1, 28], 1000,
        ),
        'found beside NXDOMAIN to AAAA from the cache': (
            by(A=four, AAAA=nxdomain), [(0, TYPES.AAAA, m.NameDoesNotExist), (0, BOTH, V4), (0, TYPES.A, V4)], [28, 1], 1000,
        ),
        'found beside NXDOMAIN to A from the cache': (
            by(A=nxdomain, AAAA=six), [(0, TYPES.A, m.NameDoesNotExist), (0, BOTH, V6), (0, TYPES.AAAA, V6)], [1, 28], 1000,
        ),
        'found beside a loop over several replies': (
            zone({'www.example': by(A=four, AAAA=alias('b.example')), 'b.example': by(A=four, AAAA=alias('www.example'))}),
            [(0, BOTH, V4)] * 2, [1, 28, 28], 1000,
        ),
    })  # fmt: skip
    async def test_type_is_asked_for_as_long_as_it_may_come(self, resolving, replies, look_ups, types, ends_at):
        server, resolve = resolving(replies)
        for pause, qtype, expected in look_ups:
            await asyncio.sleep(pause)
            assert await result_of(resolve('www.example', qtype)) == expected
        assert (server.types, now()) == (types, pytest.approx(ends_at))

    @cases('other, is_found, ends_at', {
        'lost': (lambda address: first_of(silence, address), True, 1000.5),
        'late': (lambda address: after(0.7, address), True, 1000.7),
        'an error at first': (lambda address: first_of(servfail, address), True, 1000),
        'silence': (lambda _: silence, False, 1001),
        'an error': (lambda _: servfail, False, 1000),
    })  # fmt: skip
    @in_either_family
    @in_both_orders
    async def test_missing_family_is_asked_for_in_one_set_more(self, resolving, types, found, missing, other, is_found, ends_at):
        server, resolve = resolving(by(**{found.name: a(ADDRESS[found]), missing.name: other(a(ADDRESS[missing]))}))
        assert texts(await resolve('www.example', types)) == [ADDRESS[qtype] for qtype in types if is_found or qtype == found]
        assert (now(), sorted(server.types)) == (ends_at, sorted([1, 28, missing]))

    @in_either_family
    @cases('options, other, two_sets', {
        'silence': ('', silence, 1), 'silence, timeout of 5 s': ('timeout:5', silence, 10), 'errors': ('', servfail, 0),
    })  # fmt: skip
    async def test_missing_family_is_not_asked_for_again_within_10_seconds(self, nameserver, options, other, two_sets, found, missing):
        server = nameserver(by(**{found.name: a(ADDRESS[found], ttl=300), missing.name: other}))
        with system(server, options=options) as resolve:
            await resolve('www.example', found)
            for pause, queries, seconds in ((0, 2, two_sets), (0, 2, 0), (9.9, 2, 0), (0.2, 4, two_sets), (0, 4, 0)):
                await asyncio.sleep(pause)
                ends_at = now() + seconds
                assert texts(await resolve('www.example', BOTH)) == [ADDRESS[found]]
                assert (server.types.count(missing), now()) == (queries, pytest.approx(ends_at))
        assert server.types.count(found) == 1
        server.replies[:] = [by(A=four, AAAA=six)]
        assert await result_of(resolve('other.example', BOTH)) == V4_V6

    @cases('name, asked', {
        'a later candidate': ('db', [('db.a.test', 1), ('db.a.test', 28)]), 'the end of an alias': ('alias.test.', [('alias.test', 1), ('alias.test', 28)]),
    })  # fmt: skip
    async def test_hosts_file_answers_for_both_wherever_a_look_up_comes_to_it(self, nameserver, name, asked):
        server = nameserver(zone({'alias.test': alias('db.b.test')}))
        with system(server, hosts='192.0.2.9 db.b.test', search='a.test b.test') as resolve:
            assert texts(await resolve(name, BOTH)) == ['192.0.2.9']
        assert asked_types(server) == asked


LATER = after(0.2, by(A=four, AAAA=six))


class TestSharing:
    """What look-ups of one name, cancelled or not, do to each other."""

    async def test_identical_look_ups_share_one_query(self, resolving):
        server, resolve = resolving(after(0.1, a('192.0.2.1')))
        results = await asyncio.gather(*(resolve('www.example.com', TYPES.A) for _ in range(1000)))
        assert all(result is results[0] for result in results)
        assert len(server.queries) == 1

    async def test_error_goes_to_all_callers_and_into_the_cache_and_does_not_grow(self, resolving):
        server, resolve = resolving(after(0.1, nxdomain))

        async def length_of_traceback():
            with pytest.raises(m.NameDoesNotExist) as caught:
                await resolve('www.example.com', TYPES.A)
            return len(caught.traceback)

        shared = await asyncio.gather(*(length_of_traceback() for _ in range(20)))
        cached = [await length_of_traceback() for _ in range(5)]
        assert (len(server.queries), len(set(shared[1:])), len(set(cached))) == (1, 1, 1)

    @cases('clears_at', {'before the cache is cleared': 0.2, 'after it was cleared': 0.05})
    async def test_error_of_a_hook_goes_to_all_callers(self, clock, clears_at):
        hook = Sets(0.1, ZeroDivisionError('the hook'))
        resolve, clear_cache = Resolver(no_host, hook)
        asyncio.get_running_loop().call_later(clears_at, clear_cache)
        results = await asyncio.gather(*(resolve('www.example.com', TYPES.A) for _ in range(10)), return_exceptions=True)
        assert [(type(result), str(result)) for result in results] == [(ZeroDivisionError, 'the hook')] * 10
        assert hook.calls == ['www.example.com']  # once, for all of them

    async def test_first_caller_closed_by_hand_in_a_hook_leaves_the_others_their_answer(self, nameserver):
        resolve = asking(0.1, (5, nameserver(after(0.2, a('192.0.2.1'))).at))
        if sys.version_info < (3, 13):
            # Before 3.13 a generator cannot be closed while it awaits; the loop's finalizer tries, and fails.
            asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        first = resolve('www.example.com', TYPES.A)
        first.send(None)
        (other,) = start(resolve('www.example.com', TYPES.A))
        gone = resolve('www.example.com', TYPES.A)
        gone.send(None)
        gone.close()
        await asyncio.sleep(0)
        first.close()
        assert texts(await other) == ['192.0.2.1']
        gc.collect()
        await asyncio.sleep(0)

    @pytest.mark.parametrize('count', range(14), ids='after {} steps'.format)  # after 13 all are done
    @pytest.mark.parametrize('cancelled', range(4), ids='look-up {}'.format)
    async def test_cancellation_at_any_moment_affects_no_other(self, resolving, count, cancelled):
        """Four look-ups: two of one name that is an alias, two of another, with one socket for all of them."""
        _, resolve = resolving(zone({'www.example.com': alias('b.example', ttl=0)}, otherwise=a('192.0.2.1')), max_sockets=1)
        tasks = start(*(resolve(name, TYPES.A) for name in ('www.example.com', 'www.example.com', 'c.example', 'c.example')))
        await steps(count)
        tasks.pop(cancelled).cancel()
        assert [texts(result) for result in await asyncio.gather(*tasks)] == [['192.0.2.1']] * 3

    @cases('replies, callers, types', {  # callers: when each begins, its types, what it finds, when it has that
        'A, then both': (LATER, [(0, TYPES.A, V4, 0.2), (0.1, BOTH, V4_V6, 0.3)], [1, 28]),
        'AAAA, then both': (LATER, [(0, TYPES.AAAA, V6, 0.2), (0.1, BOTH, V4_V6, 0.3)], [28, 1]),
        'both, then the type that comes first': (
            by(A=after(0.1, four), AAAA=after(0.4, six)), [(0, BOTH, V4_V6, 0.4), (0, TYPES.A, V4, 0.1)], [1, 28],
        ),
        'each type, then both, for which two sets are enough': (
            by(A=after(0.1, four), AAAA=silence),
            [(0, TYPES.A, V4, 0.1), (0, TYPES.AAAA, m.ResolverTimeout, 2.5), (0.2, BOTH, V4, 1)], [1, 28, 28, 28, 28, 28],
        ),
        'both and each, of which one does not exist': (
            by(A=after(0.2, four), AAAA=after(0.1, nxdomain)),
            [(0, BOTH, V4, 0.2), (0, TYPES.A, V4, 0.2), (0, TYPES.AAAA, m.NameDoesNotExist, 0.1)], [1, 28],
        ),
        'both, which leaves, and A': (LATER, [(0, BOTH, 'leaves', 0.1), (0, TYPES.A, V4, 0.2)], [1, 28]),
        'both, which leaves, and AAAA': (LATER, [(0, BOTH, 'leaves', 0.1), (0, TYPES.AAAA, V6, 0.2)], [1, 28]),
        'each, which leave, between both': (
            LATER, [(0, TYPES.A, 'leaves', 0.1), (0, BOTH, V4_V6, 0.2), (0, TYPES.AAAA, 'leaves', 0.1), (0, BOTH[::-1], V6 + V4, 0.2)],
            [1, 28],
        ),
        'the first one stays': (LATER, [(0, TYPES.A, V4, 0.2), (0, TYPES.A, 'leaves', 0.05), (0, TYPES.A, 'leaves', 0.1)], [1]),
        'the second one stays': (LATER, [(0, TYPES.A, 'leaves', 0.05), (0, TYPES.A, V4, 0.2), (0, TYPES.A, 'leaves', 0.05)], [1]),
        'the last one stays': (LATER, [(0, TYPES.A, 'leaves', 0.1), (0, TYPES.A, 'leaves', 0.05), (0, TYPES.A, V4, 0.2)], [1]),
    })  # fmt: skip
    async def test_caller_that_joins_or_leaves_costs_neither_query_nor_time(self, resolving, replies, callers, types):
        server, resolve = resolving(replies)

        async def call(begins_at, qtype, expected, ends_at):
            await asyncio.sleep(begins_at)
            try:
                async with asyncio.timeout(ends_at - begins_at if expected == 'leaves' else None):
                    found = await result_of(resolve('www.example', qtype))
            except TimeoutError:
                found = 'leaves'
            assert (found, now()) == (expected, pytest.approx(1000 + ends_at))

        await asyncio.gather(*(call(*caller) for caller in callers))
        assert server.types == types

    async def test_name_whose_first_caller_leaves_keeps_its_place(self, resolving):
        server, resolve = resolving(silence, after(0.1, a('192.0.2.1')), max_sockets=1)
        first, *others = start(*(resolve(f'{name}.example', TYPES.A) for name in 'aabbc'))
        await asyncio.sleep(0.1)
        first.cancel()
        others[1].cancel()  # which has not begun
        await asyncio.gather(*others, return_exceptions=True)
        assert server.names == ['a.example', 'a.example', 'b.example', 'c.example']

    async def test_look_ups_cancelled_while_a_hook_is_closed_begin_nothing(self, nameserver):
        hook = Sets(*[(1, nameserver(silence).at)] * 9, closing=0.2)
        resolve, _ = Resolver(no_host, hook, max_sockets=3)
        (single,) = start(resolve('db.example', TYPES.AAAA))
        await asyncio.sleep(0.1)
        (both,) = start(resolve('db.example', BOTH))
        await asyncio.sleep(0.1)
        both.cancel()
        await asyncio.sleep(0.05)
        assert [type(result) for result in await end(single, both)] == [asyncio.CancelledError] * 2
        assert len(hook.calls) == 2

    async def test_error_of_a_hook_for_one_type_ends_the_look_up_of_both(self, nameserver):
        hook = Sets(0.1, KeyError('hook'))
        resolve, _ = Resolver(no_host, hook)
        (single,) = start(resolve('x.example', TYPES.A))
        await asyncio.sleep(0)
        hook.given = [(9, nameserver(silence).at)]  # for the other type
        results = await asyncio.gather(single, resolve('x.example', BOTH), return_exceptions=True)
        assert ([type(result) for result in results], now()) == ([KeyError] * 2, 1000.1)

    async def test_error_of_transform_fqdn_is_for_those_that_wait_then(self, nameserver):
        transform = unittest.mock.Mock(side_effect=lambda fqdn: fqdn)
        resolve, _ = resolver_for(nameserver(silence), transform_fqdn=transform)
        (leaving,) = start(resolve('x.example', TYPES.A))
        await asyncio.sleep(0.05)
        (staying,) = start(resolve('x.example', BOTH[::-1]))
        await asyncio.sleep(0.05)
        transform.side_effect = KeyError('hook')
        leaving.cancel()
        results = await asyncio.gather(leaving, staying, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, KeyError]

    async def test_last_caller_that_leaves_closes_the_sockets(self, resolving, fake_sockets):
        sockets, (_, resolve) = fake_sockets(), resolving(after(0.2, four))
        tasks = start(*(resolve('www.example.com', TYPES.A) for _ in range(3)))
        await asyncio.sleep(0.1)
        for left, task in zip((1, 1, 0), tasks, strict=True):
            await end(task)
            assert len(sockets.open) == left
        assert (texts(await resolve('www.example.com', TYPES.A)), now()) == (V4, pytest.approx(1000.3))  # asked anew

    @by_file_and_hook
    @cases('lost_until, failed, queries', {
        'one datagram': (1000, 3, 2),  # asked again at 0.5 s, answered at 0.6 s: who comes at 0, 0.08 and 0.17 s has left by then
        'an outage of two seconds': (1001.9, 21, 5),  # asked again for the fourth time at 2 s, answered at 2.1 s
    })  # fmt: skip
    async def test_callers_who_give_up_early_have_their_answer_soon_after_a_loss(self, nameserver, resolver, lost_until, failed, queries):
        server = nameserver(lambda query: [] if now() <= lost_until else [0.1, a('192.0.2.1', ttl=300)(query)])
        with resolver(server) as resolve:
            assert await failed_callers(resolve, count=40, every=1 / 12, patience=0.4, name='www.example') == list(range(failed))
        assert len(server.queries) == queries

    @cases('asked_first, pause, leaves_at, called_at, ends_at', {
        'between two sets': (silence, 0, 0.2, [1000], 1000.5),  # it is gone on with where it was
        'inside it': (silence, 1, 1, [1000, 1001], 1002.5),  # it is called anew
        'inside it, before a late reply': (after(1.2, a('192.0.2.1')), 2, 1, [1000, 1001], 1001.2),
    })  # fmt: skip
    async def test_hook_is_called_anew_only_when_its_caller_leaves_inside_it(
        self, nameserver, asked_first, pause, leaves_at, called_at, ends_at
    ):
        one = nameserver(asked_first)
        hook = Sets((0.5, one.at), pause, (0.5, nameserver(a('192.0.2.1')).at))
        resolve, _ = Resolver(no_host, hook)
        leaving, staying = start(*(resolve('www.example', TYPES.A) for _ in range(2)))
        await asyncio.sleep(leaves_at)
        leaving.cancel()
        assert (texts(await staying), now(), len(one.queries)) == (V4, ends_at, len(called_at))
        assert (hook.called_at, len(hook.closed_at), hook.closed_at[-1]) == (called_at, len(called_at), ends_at)

    @cases('steps_, error', {
        'of a hook': (lambda _: [0.1, ZeroDivisionError('the hook')], ZeroDivisionError),
        'of a nameserver': (lambda slow: [(1, slow.at)], m.ResponseCodeError),
    })  # fmt: skip
    async def test_error_does_not_grow_with_those_that_wait(self, nameserver, steps_, error):
        resolve = asking(*steps_(nameserver(after(0.1, servfail))))

        async def length_of_traceback():
            with pytest.raises(error) as caught:
                await resolve('www.example.com', TYPES.A)
            return len(caught.traceback)

        lengths = await asyncio.gather(*(length_of_traceback() for _ in range(20)))
        assert len(set(lengths[1:])) == 1


class TestLogging:
    """What is logged, and what the exception of a handler does not do."""

    async def test_answer_is_not_logged_when_the_level_is_off(self, resolving, caplog, monkeypatch):
        caplog.set_level(logging.WARNING, logger='aiodnsresolver')
        monkeypatch.setattr(m.logger, 'log', None)  # not called, since that takes time
        _, resolve = resolving(servfail, a('192.0.2.1'))
        await resolve('www.example.com', TYPES.A)

    async def test_exchange_is_logged_at_debug_in_one_line(self, nameserver, caplog):
        caplog.set_level(logging.DEBUG, logger='aiodnsresolver')
        replies = [
            silence, servfail, first_then(wrong_case, servfail), edited(lambda data: bytes(data[:-1])), truncated_and_empty, servfail,
            alias('b.example', ttl=30), after(0.0032, a('192.0.2.1', '192.0.2.2')), nxdomain, reply('? 5 IN TXT "some"'), nodata,
        ]  # fmt: skip
        server, closed = nameserver(*replies), nameserver()
        resolve = asking(*[(0.5, server.at)] * 9, closed=[(1, closed.at), (1, server.at)])
        for name, qtype in (('www', TYPES.A), ('closed', TYPES.AAAA), ('www', TYPES.TXT), ('www', TYPES.AAAA)):
            await result_of(resolve(f'{name}.example', qtype))
        assert {record.levelname for record in caplog.records if record.name == 'aiodnsresolver'} == {'DEBUG'}
        assert [record.getMessage() for record in caplog.records if record.name == 'aiodnsresolver'] == [
            f'www.example A: {server.text} timed out after 0.5 s',
            f'www.example A: {server.text} answered SERVFAIL',
            f'www.example A: {server.text} answered SERVFAIL',
            f'www.example A: {server.text} gave a reply that cannot be read: the record whose data end at octet 45 is cut off',
            f'www.example A: {server.text} gave a truncated reply that holds no record',
            f'www.example A: {server.text} {TOO_LONG}',
            f'www.example A: {server.text} answered with the alias b.example, TTL 30, in 0.0 ms',
            f'b.example A: {server.text} answered 192.0.2.1, 192.0.2.2, TTL 20, in 3.2 ms',
            f'closed.example AAAA: {closed.text} refused: nothing listens there',
            f'closed.example AAAA: {server.text} answered NXDOMAIN, in 0.0 ms',
            f'www.example TXT: {server.text} answered some, TTL 5, in 0.0 ms',
            f'www.example AAAA: {server.text} answered with no such record, in 0.0 ms',
        ]

    @cases('back', {
        'with an address': a('192.0.2.1'), 'with NXDOMAIN': nxdomain, 'with an error': servfail, 'with a bad address': bad_address,
        'with what cannot be read': edited(lambda data: bytes(data[:-1])), 'late': after(0.7, a('192.0.2.1')),
    })  # fmt: skip
    async def test_failure_and_return_of_a_nameserver_are_logged(self, nameserver, caplog, back):
        caplog.set_level(logging.INFO, logger='aiodnsresolver')
        one, two = nameserver(silence, silence, back), nameserver(after(0.3, a('192.0.2.2')), address='127.0.0.2')
        with system(one, two) as resolve:
            await make_fail(resolve)
            await asyncio.sleep(31)
            await result_of(resolve('back.example', TYPES.A))
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ('WARNING', f'nameserver {one.text} does not answer (failing1.example A): others are asked first, and it again in 30 s'),
            ('WARNING', f'nameserver {one.text} answered back.example A: it is back'),
        ]

    @cases('replies, expected, times', {
        'an answer': ([a('192.0.2.1')], ['192.0.2.1'], 1),
        'NXDOMAIN': ([nxdomain], m.NameDoesNotExist, 1),
        'an error, then an answer': ([servfail, a('192.0.2.1')], ['192.0.2.1'], 2),
        'a time-out, then an answer': ([silence, a('192.0.2.1')], ['192.0.2.1'], 2),
        'errors alone': ([servfail], m.ResponseCodeError, 5),
        'silence': ([silence], m.ResolverTimeout, 5),
        'a closed port': ([], m.NameserverRefused, 5),
        'a bad address': ([bad_address], m.BadAddress, 1),
    })  # fmt: skip
    async def test_exception_of_a_handler_harms_no_look_up(self, resolving, replies, expected, times):
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(type(context['exception'])))
        _, resolve = resolving(*replies)
        with handler_that_raises():
            assert await asyncio.gather(*(result_of(resolve('db.example', TYPES.A)) for _ in range(2))) == [expected] * 2
        assert told == [ZeroDivisionError] * times

    async def test_exception_of_a_handler_harms_no_nameserver_that_fails_or_is_back(self, nameserver):
        told = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context['message'])))
        one, two = nameserver(silence, silence, a('192.0.2.1')), nameserver(a('192.0.2.2'), address='127.0.0.2')
        with system(one, two) as resolve, handler_that_raises('nameserver'):
            await make_fail(resolve)
            assert (texts(await resolve('n0.example', TYPES.A)), now()) == (['192.0.2.2'], 1001)
            await asyncio.sleep(31)
            assert texts(await resolve('n1.example', TYPES.A)) == ['192.0.2.1']
        assert told == ['A logging handler raised'] * 2


async def in_threads(count, work):
    return await asyncio.gather(*(asyncio.to_thread(work) for _ in range(count)))


class TestLoops:
    """One resolver in several loops and threads, and in loops that are closed."""

    @pytest.fixture
    def ask(self):
        """`await ask(name, …)` has a nameserver in the loop that runs. Returns what the names have, and how often it was asked."""
        at = {}  # by thread
        resolve, _ = Resolver(no_host, lambda fqdn: Sets(at[threading.get_ident()])(fqdn))

        async def ask(*names, given=four, timeout=5):
            with contextlib.closing(Scripted('127.0.0.1', [given])) as server:
                at[threading.get_ident()] = timeout, server.at
                found = [await within(10, resolve(name, TYPES.A)) for name in names]
            return found, len(server.queries)

        return ask

    def test_resolver_works_in_one_loop_after_another(self, ask):
        for loop_factory in [*LOOPS.values()] * 2:  # each loop has a cache of its own
            assert run(ask('www.example', 'www.example'), loop_factory) == ([['192.0.2.1']] * 2, 1)

    def test_loop_that_runs_keeps_its_cache_while_another_begins(self, ask):
        async def scenario():
            assert await ask('www.example') == ([['192.0.2.1']], 1)
            await asyncio.to_thread(run, ask('192.0.2.2'))
            assert await ask('www.example') == ([['192.0.2.1']], 0)

        run(scenario())

    def test_two_loops_in_two_threads_work_side_by_side(self, ask):
        names = [f'n{i}.example' for i in range(20)]
        found = run(in_threads(2, lambda: run(ask(*names, given=after(0.01, four)))))
        assert found == [([['192.0.2.1']] * 20, 20)] * 2

    @pytest.mark.slow
    def test_many_loops_in_many_threads_share_a_resolver(self):
        resolve, clear_cache = Resolver()

        def work():
            for _ in range(100):
                assert texts(run(resolve('localhost', TYPES.A))) == ['127.0.0.1']
                clear_cache()

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        run(in_threads(6, work))
        sys.setswitchinterval(interval)

    @cases('room', {'all sent': 9, 'one sent': 1})
    def test_loop_closed_amid_look_ups_leaves_no_warning(self, recwarn, fake_sockets, caplog, room):
        fake_sockets(room=room)
        loop, silent_and_sender = asyncio.new_event_loop(), udp_pair()
        resolve = asking((5, silent_and_sender[0].getsockname()), max_sockets=2)
        tasks = [loop.create_task(resolve(f'{letter}.example', TYPES.A)) for letter in 'aabcc']
        loop.run_until_complete(asyncio.sleep(0.01))
        for task in tasks:
            task._log_destroy_pending = False  # what the application is told of its own tasks
        loop.close()
        del task, tasks
        gc.collect()
        for sock in silent_and_sender:
            sock.close()
        assert ([str(warning.message) for warning in recwarn], caplog.text) == ([], '')

    async def test_forgotten_resolver_is_not_kept_alive(self, nameserver):
        hook = Sets((0.05, nameserver(silence).at))
        hook_is_alive = weakref.ref(hook)
        resolve, clear_cache = Resolver(no_host, hook)
        with pytest.raises(m.ResolverTimeout):
            await resolve('www.example.com', TYPES.A)
        del resolve, clear_cache, hook
        await asyncio.sleep(0.06)
        gc.collect()
        assert not hook_is_alive()

    @cases('name', {'whose look-ups are over': 'localhost', 'with one in flight': 'www.example'})
    def test_closed_loop_is_forgotten(self, name):
        resolve, clear_cache = Resolver()
        loops = [asyncio.new_event_loop() for _ in range(3)]
        alive = [weakref.ref(loop) for loop in loops]
        with every_nameserver_is(('127.0.0.1', 9)), unittest.mock.patch.object(m.Socket, 'send'):
            while loops:
                looking = loops[-1].create_task(resolve(name, TYPES.A))
                looking._log_destroy_pending = False
                loops[-1].run_until_complete(asyncio.sleep(0))
                loops.pop().close()
        del looking
        gc.collect()
        assert [loop() is None for loop in alive] == [False, True, True]  # the last to run was the first
        clear_cache()

    def test_closed_loops_leave_no_descriptors_to_the_garbage_collector(self, ask):
        with garbage_kept():
            descriptors = [(run(ask('www.example')), descriptors_now()) for _ in range(3)]
        assert descriptors == [descriptors[0]] * 3

    @pytest.mark.filterwarnings('ignore:unclosed:ResourceWarning')  # what Python says of a loop that was not closed
    @cases('given, timeout', {'answered': (four, 5), 'silent': (silence, 0.01)})
    def test_loops_dropped_without_being_closed_are_let_go_of(self, ask, given, timeout):
        loops, descriptors = [], []
        for _ in range(5):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(ask('www.example', given=given, timeout=timeout))
            loops.append(weakref.ref(loop))
            del loop
            gc.collect()
            descriptors.append(descriptors_now())
        alive = [loop() for loop in loops if loop()]
        for loop in alive:
            loop.close()
        assert (len(alive) <= 1, descriptors) == (True, [descriptors[0]] * 5)

    def test_loop_with_a_look_up_in_flight_is_not_let_go_of_while_another_runs(self, ask):
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            asked = loop.create_task(ask('www.example', 'www.example', given=after(0.05, four)))
            loop.run_until_complete(asyncio.sleep(0.01))
            assert run(ask('www.example', given=a('192.0.2.2'))) == ([['192.0.2.2']], 1)
            assert loop.run_until_complete(asked) == ([['192.0.2.1']] * 2, 1)

    def test_loops_that_are_used_in_turn_go_on_working(self, ask):
        with contextlib.closing(asyncio.new_event_loop()) as one, contextlib.closing(asyncio.new_event_loop()) as two:
            for i, loop in enumerate([one, two] * 3):
                assert loop.run_until_complete(ask(f'n{i}.example')) == ([['192.0.2.1']], 1)

    @cases('qtype', {'A': TYPES.A, 'both families': BOTH})
    def test_aiofastforward_moves_a_look_up_to_its_timeout(self, qtype):
        async def scenario():
            with aiofastforward.FastForward(asyncio.get_running_loop()) as forward:
                (looking,) = start(result_of(Resolver()[0]('www.example', qtype)))
                await forward(2.5)
                return await looking

        silent, sender = udp_pair()
        with silent, sender, every_nameserver_is(silent.getsockname()):
            assert run(scenario()) is m.ResolverTimeout


FORGERIES = {  # more are in the table of read_reply
    'empty': lambda _: b'',
    'garbage': lambda _: b'garbage' * 100,
    'largest datagram': lambda _: b'\xff' * 65507,
    'other ID': edited(set_octet(0, lambda octet: octet ^ 0xFF)),
    'other case': wrong_case,
}


class TestHostileNetwork:
    """Forged, misleading and lost datagrams."""

    @cases('forged', FORGERIES)
    async def test_forged_reply_is_ignored_and_the_true_one_wins(self, resolving, forged):
        server, resolve = resolving(first_then(forged, forged, four))
        assert texts(await resolve('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert (now(), len(server.queries)) == (1000, 1)

    async def test_reply_from_another_address_never_arrives(self, nameserver, resolving):
        liar = nameserver(silence)

        def lie(query):
            data = a('192.0.2.66')(query)
            return [lambda server: liar.sock.sendto(data, server.queries[-1].address), 0.1, four(query)]

        assert texts(await resolving(lie)[1]('www.example.com', TYPES.A)) == ['192.0.2.1']

    @pytest.mark.slow
    async def test_ten_thousand_forgeries_cost_one_read_each(self, nameserver, fake_sockets):
        received = []

        def flood(query):
            forged = [forge(query) for forge in FORGERIES.values()]
            return [part for i in range(10_000) for part in (forged[i % len(forged)], 0.0)] + [four(query)]

        fake_sockets(receiving=received.append)
        server = nameserver(flood)
        assert texts(await asking((5, server.at))('www.example.com', TYPES.A)) == ['192.0.2.1']
        assert (len(server.queries), len(received)) == (1, 10_001)

    async def test_records_beside_the_answer_poison_no_other_name(self, resolving):
        poison = {'authority': ['bank.example. 999 IN NS ns.evil.example.'], 'additional': ['bank.example. 999 IN A 192.0.2.66']}
        _, resolve = resolving(reply('? 20 IN A 192.0.2.1', 'bank.example. 999 IN A 192.0.2.66', **poison), a('192.0.2.7'))
        found = [texts(await resolve(name, TYPES.A)) for name in ('www.example.com', 'bank.example')]
        assert found == [['192.0.2.1'], ['192.0.2.7']]

    @pytest.mark.slow
    async def test_loss_of_a_third_of_all_datagrams_loses_no_answer(self, nameserver):
        chance, answered = random.Random(20261123), set()

        def lossy(query):
            if chance.random() < 0.3 or chance.random() < 0.3:  # on the way there, on the way back
                return []
            answered.add(name_of(query))
            return four(query)

        with system(nameserver(lossy), nameserver(lossy, address='127.0.0.2')) as resolve:
            results = await results_of(resolve, 10_000)
        failed = [f'n{i}.example' for i, found in enumerate(results) if found is m.ResolverTimeout]
        assert all(found in (V4, m.ResolverTimeout) for found in results)
        assert not answered & {*failed}
        assert len(answered) + len(failed) == 10_000
        assert 0 < len(failed) < 50  # by chance one in a thousand


class TestRandomness:
    """IDs, ports and letters of queries cannot be predicted."""

    async def test_query_has_its_own_id_port_and_case(self, resolving):
        server, resolve = resolving(a('192.0.2.1', ttl=0))
        for _ in range(200):
            await resolve('www.some-longer-name.example.com', TYPES.A)
        assert len({query.wire[:2] for query in server.queries}) > 180
        assert len({query.address[1] for query in server.queries}) > 150
        assert len({query.name for query in server.queries}) > 190
        assert set(server.names) == {'www.some-longer-name.example.com'}
        assert {parse(query.wire)[1:9] for query in server.queries} == {(0, 0, 0, 0, 1, 0, 0, 0)}

    async def test_queries_of_a_set_and_retries_have_their_own_ids_ports_and_cases(self, nameserver):
        server = nameserver(silence)
        assert not await within(99, asking(*[(1, server.at, server.at)] * 5)('www.some-longer-name.example.com', BOTH))
        assert len(server.queries) == 20
        for of_query in (lambda query: query.wire[:2], lambda query: query.address, lambda query: query.name):
            assert len({of_query(query) for query in server.queries}) > 17  # by chance

    async def test_randomness_is_that_of_the_system(self, resolving):
        server, resolve = resolving(four)
        with unittest.mock.patch('aiodnsresolver.os.urandom', lambda count: bytes([0x12, 0x34, *[0xFF] * count][:count])):
            await resolve('www.example.com', TYPES.A)
            assert mix_case(b'abcd') == b'ABCD'
        assert [(query.name, query.wire[:2]) for query in server.queries] == [('WWW.EXAMPLE.COM', b'\x12\x34')]

    def test_forked_process_sends_other_ids_and_cases(self):
        code = """
import aiodnsresolver as m
if os.fork():
    os.wait()
print(m.mix_query(b'www.some-longer-name.example.com').hex())
"""
        output, errors = output_of(('127.0.0.1', 53), code)
        theirs, ours = map(bytes.fromhex, output.split())
        assert (errors, theirs.lower()[2:]) == ('', ours.lower()[2:])
        assert theirs[:2] != ours[:2]
        assert theirs[2:] != ours[2:]

    @cases('options', {'spelled by the caller': {'transform_fqdn': bytes.upper}, 'randomize-case:0': {}})
    async def test_id_is_that_of_the_system_however_the_name_is_spelled(self, nameserver, options):
        server = nameserver(silence)
        drawn = iter([b'\1\2', b'\3\4'])
        with system(server, options='randomize-case:0 attempts:2'), unittest.mock.patch('aiodnsresolver.os.urandom', lambda _: next(drawn)):
            with pytest.raises(m.ResolverTimeout):
                await Resolver(**options)[0]('www.example.com', TYPES.A)
        assert [query.wire[:2] for query in server.queries] == [b'\1\2', b'\3\4']


async def all_ask(server, n, name, **options):
    resolve, _ = resolver_for(server, **options)
    await asyncio.gather(*(resolve(name.format(i), TYPES.A) for i in range(n)))


async def all_are_cancelled(server, n, name, **options):
    resolve, _ = resolver_for(server, **options)
    tasks = start(*(resolve(name.format(i), TYPES.A) for i in range(n)))
    await asyncio.sleep(0)
    await end(*tasks)


async def callers_leave_one_after_another(server, n, qtype=TYPES.A, step=1, in_hook=()):
    server.replies = [silence]
    resolve = asking(*in_hook, (0.5, server.at))
    tasks = start(*(resolve('www.example', qtype) for _ in range(n)))
    await asyncio.sleep(0.01)
    for task in tasks[::step]:
        task.cancel()
        await asyncio.sleep(0)


async def reply_has_many_addresses(server, n):
    server.replies = [a(*(f'10.0.{i >> 8}.{i & 255}' for i in range(n)))]
    assert len(await resolver_for(server)[0]('www.example.com', TYPES.A)) == n


async def search_list_is_long(server, n):
    server.replies = [nxdomain]
    with system(server, search=' '.join(f'd{i}.example' for i in range(n))) as resolve, pytest.raises(m.NameDoesNotExist):
        await resolve('db', TYPES.A)


async def hosts_file_is_long(server, n):
    with system(server, hosts=''.join(f'10.0.{i >> 8}.{i & 255} same.lan host{i}.lan\n' for i in range(n))) as resolve:
        assert len(await resolve('same.lan', TYPES.A)) == n


class TestResources:
    """Memory, garbage and work."""

    @cases('together', {'alone': 1, 'with another caller': 2})
    @cases('replies, qtype, patience', {
        'address': ([four], TYPES.A, None),
        'NXDOMAIN': ([nxdomain], TYPES.A, None),
        'SERVFAIL': ([servfail], TYPES.A, None),
        'silence': ([silence], TYPES.A, None),
        'alias': ([alias('other.example')], TYPES.A, None),
        'late': ([after(0.7, four)], TYPES.A, None),
        'closed': ([], TYPES.A, None),
        'cancelled': ([silence], TYPES.AAAA, 0.1),
        'both families': ([by(A=four, AAAA=silence)], BOTH, None),
        'hook that raises': (None, TYPES.A, None),
    })  # fmt: skip
    async def test_look_up_leaves_no_garbage(self, nameserver, replies, together, qtype, patience):
        async def look_up(name):
            with contextlib.suppress(m.ResolverError, TimeoutError, ZeroDivisionError):
                async with asyncio.timeout(patience):
                    await resolve(name, qtype)

        sets = [0.0, lambda: 1 / 0] if replies is None else [(0.5, nameserver(*replies).at)] * 2
        resolve = asking(*sets)
        await look_up('first.example')
        with garbage_kept():
            for i in range(100):
                await asyncio.gather(*(look_up(f'n{i}.example') for _ in range(together)))
            assert gc.collect() < 100

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_million_look_ups_leave_memory_and_descriptors_as_they_were(self, nsd):
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

    @pytest.mark.skipif(sys.version_info[:2] != (3, 11) or sys.implementation.name != 'cpython', reason='the bounds are for CPython 3.11')
    @cases('types, bound, bound_of_python', {'one type': ('TYPES.A', 205, 95), 'both types': ('(TYPES.A, TYPES.AAAA)', 285, 126)})
    def test_look_up_makes_no_more_calls_than_its_bound(self, nsd, types, bound, bound_of_python):
        code = f"""
import collections, statistics, time
async def main():
    def select_later(timeout):  # when all replies have arrived, unless the machine is busy
        time.sleep(0.002)
        return select(timeout)
    def profile(frame, event, _):
        if frame.f_code is not select_later.__code__:
            counts[event] += 1
    resolve, _ = Resolver(get_nameservers=get_nameservers)
    await resolve('warm.wild.zone.example', {types})
    selector, counts = asyncio.get_running_loop()._selector, collections.Counter()
    select, selector.select = selector.select, select_later
    totals = []
    for name in [f'n{{i}}.wild.zone.example' for i in range(100)]:
        sys.setprofile(profile)
        await resolve(name, {types})
        sys.setprofile(None)
        totals.append((counts['call'] + counts['c_call'] - 1, counts['call']))  # but that to end it
        counts.clear()
    print(*map(round, map(statistics.median, zip(*totals))))
asyncio.run(main(), debug=False)
"""
        output, errors = output_of(nsd, code)
        calls, of_python = map(int, output.split())
        assert errors == ''
        assert (calls <= bound, of_python <= bound_of_python) == (True, True), output

    @cases('scenario', {
        'callers of one name': functools.partial(all_ask, name='www.example.com'),
        'callers of one name who are cancelled': functools.partial(all_are_cancelled, name='www.example.com'),
        'names that wait for one socket': functools.partial(all_ask, name='n{}.example', max_sockets=1),
        'names that wait for one socket and are cancelled': functools.partial(all_are_cancelled, name='n{}.example', max_sockets=1),
        'callers who leave, from the first': callers_leave_one_after_another,
        'callers who leave, from the last': functools.partial(callers_leave_one_after_another, step=-1),
        'callers of both types who leave': functools.partial(callers_leave_one_after_another, qtype=BOTH),
        'callers who leave while a hook sleeps': functools.partial(callers_leave_one_after_another, in_hook=[0.5]),
        'addresses of a reply': reply_has_many_addresses,
        'search list': search_list_is_long,
        'hosts file': hosts_file_is_long,
    })  # fmt: skip
    async def test_no_step_is_quadratic_in_what_a_user_can_make_large(self, nameserver, scenario):
        calls = []
        for n in (100, 400):
            server, count = nameserver(four), itertools.count()
            sys.setprofile(lambda frame, event, _, count=count: 'aiodnsresolver' in frame.f_code.co_filename and next(count))
            try:
                await scenario(server, n)
            finally:
                sys.setprofile(None)
            calls.append(next(count))
        assert calls[1] < 4.5 * calls[0]


REPLIES = [a('192.0.2.1', ttl=3), nxdomain, nodata, servfail, silence, after(1.2, a('192.0.2.1')), alias('z.example', ttl=1)]


def check_invariants(resolver):
    """What the module promises of the end of each step of the loop, in its section "Exchange"."""
    sockets, cache = resolver.sockets, resolver.cache
    poller = sockets.poller
    open_ = set(poller.queries.values())
    assert len(open_) <= sockets.limit <= sockets.max_sockets
    assert all(query.state != 'closed' and query.fd == fd for fd, query in poller.queries.items())
    asked = [*cache.in_flight.values(), *(query.question for query in open_)]
    flights = {*(question.flight for question in asked), *sockets.ready, *sockets.waiting, *sockets.at_hook}
    for flight in flights:
        check_flight(flight, sockets, open_)
    if not sockets.is_flush_due:
        assert not sockets.outbox
        needed = min(len(next(iter(sockets.ready)).unasked), sockets.limit) if sockets.ready else 1
        assert not (sockets.ready or sockets.waiting) or (len(open_) + needed > sockets.limit and not sockets.at_hook)
    assert (poller.epoll is not None) == bool(poller.queries or poller.timer)
    assert poller.due <= min([flight.deadline for flight in flights], default=math.inf)


def check_flight(flight, sockets, open_):
    assert flight.questions
    assert not ({flight} & {*sockets.waiting, *sockets.ready} and (flight.in_set or flight.late))  # what is in line has no socket
    for qtype, question in flight.questions.items():
        assert question.callers
        assert all(caller.wanted[qtype] is question for caller in question.callers)
    assert {*flight.in_set, *flight.late} == {query for query in open_ if query.question.flight is flight}
    assert {query.state for query in flight.in_set} <= {'open', 'active'}
    assert {query.state for query in flight.late} <= {'late'}
    assert flight not in sockets.waiting or flight.state == 'idle'
    assert (flight in sockets.ready) == (flight.state == 'ready')
    if flight in sockets.at_hook:
        assert flight.late
        assert flight.state in ('idle', 'in hook')
    assert flight in sockets.at_hook or flight.state != 'in hook' or not flight.late
    assert flight.state == 'asking' or not (flight.in_set or flight.deadline < math.inf)
    assert flight.state in ('asking', 'ready') or not flight.unasked
    assert flight.deadline == math.inf or flight.in_set or flight.late  # by which the timer finds it
    assert flight.deadline < math.inf or all(query.state != 'active' for query in flight.in_set)
    assert flight.state != 'asking' or flight.in_set or flight.resolver.loop._ready  # with `end_unsent_set`
    if flight.state == 'idle' and flight not in sockets.waiting:
        assert any(flight in caller.to_drive for question in flight.questions.values() for caller in question.callers)


def check_nothing_left(resolver):
    sockets = resolver.sockets
    assert m.NOTHING == {}
    assert not [*sockets.waiting, *sockets.ready, *sockets.at_hook, *sockets.outbox, *resolver.cache.in_flight, *sockets.poller.queries]


class Chance(random.Random):
    def is_so(self, probability):
        return self.random() < probability


async def run_schedule(servers, fake, chance):
    def check_and_select(timeout=None):
        check_invariants(resolver)
        return select(timeout)

    nameservers = [*(server.at for server in servers), ('fe80::1%nowhere', 53), ('127.0.0.3', 9)]

    async def get_nameservers(fqdn):
        try:
            for _ in range(chance.randrange(4)):
                if chance.is_so(0.3):
                    await asyncio.sleep(chance.choice([0, 0, 0.1, 1]))
                if chance.is_so(0.2) and len(fqdn) == len('a.example') and fqdn != b'z.example':
                    with contextlib.suppress(m.ResolverError):
                        await resolve_by(resolver, f'inner{chance.randrange(3)}.example', TYPES.A)
                yield chance.choice([0.1, 0.5, 1]), *chance.choices(nameservers, [4, 4, 1, 1], k=chance.choice([1, 1, 2, 3]))
        finally:
            if chance.is_so(0.1):
                await asyncio.sleep(0.3)

    resolver = loop_resolver(chance.choice([get_nameservers, get_nameservers, None]), None, chance.randint(1, 5))
    selector = asyncio.get_running_loop()._selector
    select, selector.select = selector.select, check_and_select
    tasks, is_cleared, is_busy, is_changing = [], chance.is_so(0.2), chance.is_so(0.5), chance.is_so(0.3)
    for i in range(chance.randint(1, 15)):
        if i == 0 or (is_changing and chance.is_so(0.5)):
            fake.limit, fake.room = chance.choice([1, 2, 4, 1000, 1000]), chance.choice([1, 3, 1000, 1000])
        name = f'{chance.choice("abcdefgh"[: chance.choice([2, 8])])}.example'
        tasks += start(resolve_by(resolver, name, chance.choice([TYPES.A, TYPES.AAAA, BOTH, BOTH[::-1]])))
        for _ in range(0 if is_busy and chance.is_so(0.7) else chance.randrange(3)):
            await asyncio.sleep(chance.choice([0, 0, 0.1, 0.7]))
        if chance.is_so(0.3):
            chance.choice(tasks).cancel()
            await asyncio.sleep(0)
        if is_cleared and chance.is_so(0.2):
            resolver.cache.clear()
    for _ in range(chance.choice([0, 0, 3, 10])):
        await asyncio.sleep(chance.choice([0, 0, 0.1, 0.5]))
        chance.choice(tasks).cancel()
    await asyncio.wait(tasks, timeout=1000)
    for task in tasks:
        assert task.done(), 'a deadlock'
        assert task.cancelled() or isinstance(task.exception(), (m.ResolverError, type(None))), repr(task.exception())
    sockets = resolver.sockets
    assert not [*sockets.waiting, *sockets.ready, *sockets.at_hook, *sockets.outbox, *resolver.cache.in_flight, *sockets.poller.queries]
    await asyncio.sleep(2)
    assert sockets.poller.epoll is None


class TestSchedules:
    """Any order of replies, timeouts, cancellations and shortages."""

    @pytest.mark.parametrize('seed', range(300), ids='schedule {}'.format)
    async def test_any_schedule_ends_all_look_ups(self, nameserver, fake_sockets, seed):
        """Of a hook, which may sleep and resolve, or resolv.conf; with EMFILE, ENOBUFS, cancellation, clear_cache: all drawn by chance."""
        chance = Chance(seed)
        servers = [nameserver(lambda query: chance.choice(REPLIES)(query), address=f'127.0.0.{i}') for i in (1, 2)]
        options = f'timeout:{chance.choice([1, 2])} attempts:{chance.choice([1, 2, 5])} {chance.choice(["rotate", ""])}'
        with system(*servers, options=options, search=chance.choice(['', '', 'x.example y.example'])):
            await run_schedule(servers, fake_sockets(), chance)

    async def test_event_that_a_state_does_not_have_is_an_error(self, clock):
        resolver = loop_resolver(Sets())
        caller = resolver.recall('x.example', (TYPES.A,), now())
        flight = m.Flight(resolver, b'x.example', (TYPES.A,), caller)
        with pytest.raises(KeyError, match='idle'):
            flight.end_set()
        flight.left(caller)
        for event in (flight.enter_hook, flight.lose_hook, flight.end_set, lambda: flight.ask(1, [])):
            with pytest.raises(KeyError, match='over'):
                event()


# --- A slow and simple model ------------------------------------------------------------------------------------------
#
# A schedule says what each nameserver replies to the n-th query of a question, who asks when, who is cancelled, and when the cache is
# cleared. The model and the module, on a virtual clock and network, have to give the same: what each caller got and when, and which
# queries were sent when. Of the module's sockets, timers and hooks the model knows nothing.

A, AAAA = map(int, BOTH)
NEGATIVE = {'NXDOMAIN': 'NameDoesNotExist', 'NODATA': 'NoRecords'}
BAD_DATA = 'BadAddress', 'AliasChainTooLong'
KINDS = ['addresses', 'alias', *NEGATIVE, 'error', 'bad'], [10, 4, 3, 3, 2, 1]
# The share of queries that are lost, of replies that are the usual one to this question, and of replies in time.
MOODS = {'good': (0.05, 0.95, 0.9), 'dead': (1, 1, 1), 'down': (0, 1, 1), 'lossy': (0.4, 0.9, 0.8), 'slow': (0.1, 0.9, 0.2)}
MOODS |= {'odd': (0.2, 0.3, 0.6), 'refusing': (0.1, 0.9, 0.8)}


class Planned(typing.NamedTuple):
    """A reply to one query. `ttls`: of each address; of an alias; TTL and MINIMUM of the SOA, or none without an SOA."""

    kind: str  # as in KINDS, or lost
    delay: float = 0.0
    ttls: tuple = ()
    target: str = ''  # of an alias


class Call(typing.NamedTuple):
    name: str
    types: tuple
    at: float
    cancelled_at: float


@dataclasses.dataclass
class Schedule:
    calls: list  # in the order of their times
    seed: int  # of the replies
    sets: list | None  # (timeout, nameservers) of the hook; None: resolv.conf, as follows
    timeout: float
    attempts: int
    search: tuple
    ndots: int
    moods: list  # of each nameserver
    up_at: float  # when those come back that are down
    cleared_at: float
    targets: dict = ()  # name -> its alias

    def candidates(self, name):
        longer = [f'{name}.{domain}' for domain in self.search if not name.endswith('.')]
        return [name.removesuffix('.'), *longer] if name.count('.') >= self.ndots else [*longer, name]

    def reply(self, nameserver, fqdn, qtype, number, when):
        of_question = random.Random(f'{self.seed} {fqdn} {qtype}')  # so that a name is mostly the same to all, as in a zone
        chance = random.Random(f'{self.seed} {nameserver} {fqdn} {qtype} {number}')
        mood, usual, lost_here = self.moods[nameserver], of_question.choices(*KINDS)[0], of_question.choice([0.9, *[0] * 7])
        lost, as_usual, in_time = MOODS[mood]
        if chance.random() < max(lost, lost_here, mood == 'down' and when < self.up_at):
            return Planned('lost')
        kind = usual if chance.random() < as_usual else chance.choices(*KINDS)[0]
        kind = 'error' if mood == 'refusing' and chance.random() < 0.8 else kind
        kind = 'addresses' if kind == 'alias' and not self.targets[fqdn] else kind
        delay = self.timeout * (chance.uniform(0.02, 0.9) if chance.random() < in_time else chance.uniform(0.9, 4))
        count = {'addresses': chance.choice([1, 1, 1, 2, 3]), 'alias': 1, 'NXDOMAIN': 2, 'NODATA': chance.choice([0, 2, 2])}.get(kind, 0)
        return Planned(kind, delay, tuple(chance.choices([0, 1, 2, 5, 20, 80], k=count)), self.targets[fqdn] if kind == 'alias' else '')


def draw_schedule(chance):
    """Times are such that, but for one schedule in thousands, no two events that do not belong together are at one instant."""
    world = chance.choice(['hook', 'hook', 'resolv.conf', 'search list', 'outage', 'outage'])
    count, timeout, moods = chance.choice([1, 1, 2, 2, 3]), chance.choice([0.5, 0.5, 0.5, 1]), chance.choices([*MOODS, *['good'] * 3], k=3)
    sets, search, names, span, most_calls = None, (), ['a.example', 'b.example', 'c.example'], chance.choice([0.5, 2, 2, 6, 15, 45]), 8
    if world == 'hook':
        parallel = [chance.sample(range(count), chance.randint(1, count)) for _ in range(chance.choice([1, 2, 3, 4, 6]))]
        sets = [(timeout * chance.uniform(0.4, 1.6), nameservers) for nameservers in parallel]
    elif world == 'search list':
        search, names = chance.choice([('one.test',), ('one.test', 'two.test')]), ['a', 'b.c', 'a.one.test.']
    elif world == 'outage':  # of the first nameserver
        count, span, most_calls = chance.choice([2, 2, 3]), chance.choice([3, 6, 12, 50, 70]), 12
        moods[0] = chance.choice(['down', 'down', 'dead', 'lossy', 'slow'])
    calls, cancelled, names = [], chance.choice([0.1, 0.2, 0.5]), names[: chance.choice([1, 2, 3, 3])]
    for _ in range(chance.randint(1, most_calls)):
        at, name = 1000 + chance.random() * span, chance.choice(names)
        if calls and chance.random() < 0.2:  # together with another one
            at, name = calls[-1].at, calls[-1].name
        types = chance.choice([(A,), (AAAA,), *[(A, AAAA), (AAAA, A)] * (1 if world == 'outage' else 3)])
        patience = chance.random() * timeout * chance.choice([1, 3]) if chance.random() < cancelled else math.inf
        calls.append(Call(name, types, at, at + patience))
    calls.sort(key=lambda call: call.at)
    attempts, ndots = chance.choice([1, 2, 3]) if timeout == 1 else 5, chance.choice([1, 1, 2])
    up_at, cleared_at = 1000 + chance.random() * span, 1000 + chance.random() * chance.choice([span, *[math.inf] * 4])
    schedule = Schedule(calls, chance.getrandbits(32), sets, timeout, attempts, search, ndots, moods[:count], up_at, cleared_at)
    fqdns = list(dict.fromkeys(fqdn for call in calls for fqdn in schedule.candidates(call.name)))
    targets = {fqdn: chance.choice(['x.test', 'y.test', *fqdns]) for fqdn in fqdns}
    targets |= {'x.test': chance.choice(['y.test', fqdns[0]]), 'y.test': 'x.test'}
    schedule.targets = {fqdn: target if target != fqdn else '' for fqdn, target in targets.items()}
    return schedule


class Nameservers:
    """Those of a schedule, which note what they are sent."""

    def __init__(self, schedule):
        self.schedule, self.sent, self.counts = schedule, [], collections.Counter()

    def receive(self, *query, when):
        """Returns the reply to a query (nameserver, name, type), and how many of this question came before."""
        self.sent.append((*query, when))
        number, self.counts[query] = self.counts[query], self.counts[query] + 1
        return self.schedule.reply(*query, number, when), number


class ModelOutcome(typing.NamedTuple):
    """Of a question: records, each (address, expires_at), or an alias, or the error that says that there are none; or what happened."""

    expires_at: float = 0.0
    records: tuple = ()
    alias: str = ''
    negative: str = ''  # a class of error
    happened: tuple = ()  # in place of an answer: (time, class of error) of each thing
    is_broken: bool = False  # each nameserver replied, with errors alone


ModelQuery = collections.namedtuple('ModelQuery', 'question nameserver sent_at')


class ModelFlight:
    """One or two questions of one name, put to one set after another. `undecided` are the queries of the set under way."""

    def __init__(self, cache, name, fqdn, qtypes):
        self.cache, self.name, self.undecided, self.is_answered = cache, name, [], False
        self.open_questions = [ModelQuestion(fqdn, qtype, self) for qtype in qtypes]


class ModelQuestion:
    """Of one flight. `callers` wait for it, in the order in which they came; without any it is closed."""

    def __init__(self, fqdn, qtype, flight):
        self.fqdn, self.qtype, self.key, self.flight = fqdn, qtype, (fqdn, qtype), flight
        self.asked_at, self.callers, self.happened = None, [], []
        self.error_replies, self.timed_out = collections.Counter(), set()

    def failure(self):
        are_errors = {what for _, what in self.happened} <= {'ResponseCodeError', 'ResolverTimeout'}
        is_broken = are_errors and all(self.error_replies[nameserver] >= 2 for nameserver in self.timed_out)
        return ModelOutcome(happened=tuple(self.happened), is_broken=is_broken)


class ModelCache:
    """By the key of a question. clear_cache makes another one; a flight keeps to that in which it began."""

    def __init__(self):
        self.answers, self.missing, self.in_flight = {}, {}, {}

    def answer(self, key, when):
        return self.answers[key] if key in self.answers and when < self.answers[key].expires_at else None


class Model:
    """`chance` draws the order of what happens at one instant."""

    def __init__(self, schedule, chance=None):
        self.schedule, self.nameservers, self.chance = schedule, Nameservers(schedule), chance
        self.now, self.cache, self.events, self.numbers = 0.0, ModelCache(), [], itertools.count()
        self.last_reply, self.silence = collections.Counter(), collections.defaultdict(list)  # since it, by nameserver: (name, from, to)
        self.retry_at = {}  # of failing nameservers

    def at(self, when, function, *arguments):
        heapq.heappush(self.events, (when, self.chance.random() if self.chance else 0, next(self.numbers), function, arguments))

    def run(self):
        callers = [ModelCaller(self, call) for call in self.schedule.calls]
        for caller in callers:
            self.at(caller.call.at, caller.go_on)
            self.at(caller.call.cancelled_at, caller.cancel)
        self.at(self.schedule.cleared_at, lambda: setattr(self, 'cache', ModelCache()))
        while self.events and self.events[0][0] < math.inf:
            self.now, _, _, function, arguments = heapq.heappop(self.events)
            function(*arguments)
        return [caller.outcome for caller in callers], self.nameservers.sent

    def begin(self, fqdn, qtypes, caller):
        flight = ModelFlight(self.cache, caller.call.name.rstrip('.'), fqdn, qtypes)
        flight.sets = self.sets_of_resolv_conf(flight) if self.schedule.sets is None else iter(self.schedule.sets)
        for question in flight.open_questions:
            self.cache.in_flight[question.key] = question
            caller.join(question)
        self.next_set(flight)

    def sets_of_resolv_conf(self, flight):
        for _ in range(self.schedule.attempts):
            rest = range(len(self.schedule.moods))
            while rest := [i for i in rest if any(each.error_replies[i] < 2 for each in flight.open_questions)]:
                chosen = next((i for i in rest if self.retry_at.get(i, 0) <= self.now), rest[0])
                if self.retry_at.get(chosen, math.inf) <= self.now:
                    self.retry_at[chosen] = self.now + 30
                rest.remove(chosen)
                yield self.schedule.timeout, [chosen]

    def next_set(self, flight):
        timeout, nameservers = next(flight.sets, (math.inf, []))
        flight.undecided = []
        for question in list(flight.open_questions):
            for nameserver in nameservers:
                if self.schedule.sets is not None or question.error_replies[nameserver] < 2:
                    self.send(question, nameserver)
            if not nameservers:  # all were asked
                if any(caller.patience < math.inf for caller in question.callers):
                    self.remember_missing(question)
                self.finish(question, question.failure())
        flight.asked = [query.question for query in flight.undecided]
        self.at(self.now + timeout, self.time_up, flight, flight.undecided)

    def send(self, question, nameserver):
        question.asked_at = self.now if question.asked_at is None else question.asked_at
        query = ModelQuery(question, nameserver, self.now)
        question.flight.undecided.append(query)
        planned, number = self.nameservers.receive(nameserver, *question.key, when=self.now)
        if planned.kind != 'lost':
            self.at(self.now + planned.delay, self.receive, query, planned, number)

    def time_up(self, flight, undecided):
        if undecided and undecided is flight.undecided:  # else the set was over before
            for query in undecided:
                query.question.happened.append((self.now, 'ResolverTimeout'))
                query.question.timed_out.add(query.nameserver)
                self.count_silence(query)
            self.end_set(flight)

    def end_set(self, flight):
        for question in list(flight.open_questions):
            for caller in list(question.callers if question in flight.asked else ()):
                caller.patience -= 1
                if caller.patience == 0:
                    self.remember_missing(question)
                    question.callers.remove(caller)
                    caller.take(question, question.failure())
            if not question.callers:
                self.close(question)
        if flight.open_questions:
            self.next_set(flight)

    def end_set_if_decided(self, flight):
        if flight.open_questions and not flight.undecided:
            self.end_set(flight)

    def receive(self, query, planned, number):
        question, nameserver, flight = query.question, query.nameserver, query.question.flight
        if question not in flight.open_questions:
            return  # its socket is closed
        self.last_reply[nameserver], self.silence[nameserver] = self.now, []
        self.retry_at.pop(nameserver, None)
        if query in flight.undecided:
            flight.undecided.remove(query)
        if planned.kind == 'error':
            question.happened.append((self.now, 'ResponseCodeError'))
            question.error_replies[nameserver] += 1
        elif planned.kind == 'bad':
            question.happened.append((self.now, 'BadAddress'))
            self.finish(question, question.failure())
        else:
            expires = [question.asked_at + ttl for ttl in (*planned.ttls, *[10] * (planned.kind in NEGATIVE))]
            records = tuple((model_address(nameserver, question.qtype, number, i), when) for i, when in enumerate(expires))
            records = records if planned.kind == 'addresses' else ()
            answer = ModelOutcome(min(expires), records, planned.target, NEGATIVE.get(planned.kind, ''))
            flight.is_answered = True
            flight.cache.missing.pop(question.key, None)
            is_any_failing = any(self.now < retry_at for retry_at in self.retry_at.values())
            if not answer.negative or (planned.ttls and not is_any_failing):
                flight.cache.answers[question.key] = answer
            self.finish(question, answer)
        self.end_set_if_decided(flight)

    def finish(self, question, outcome):
        self.close(question)
        for caller in question.callers:
            caller.take(question, outcome)

    def close(self, question):
        question.flight.open_questions.remove(question)
        question.flight.undecided[:] = [query for query in question.flight.undecided if query.question is not question]
        del question.flight.cache.in_flight[question.key]

    def remember_missing(self, question):
        question.flight.cache.missing[question.key] = question.failure(), self.now + 10

    def count_silence(self, query):
        """Counts that a nameserver did not answer a query until now, which is the end of its set or of its question."""
        question, nameserver, other = query.question, query.nameserver, A + AAAA - query.question.qtype
        is_of_type = question.flight.is_answered or self.cache.answer((question.fqdn, other), self.now)
        if self.schedule.sets is not None or query.sent_at < self.last_reply[nameserver] or is_of_type:
            return  # the last: something on the way drops one type
        self.silence[nameserver].append((question.flight.name, query.sent_at, self.now))
        waited = 0.0
        for i, (_, start, end) in enumerate(self.silence[nameserver], 1):
            waited = min(waited + end - start, end - min(start for _, start, _ in self.silence[nameserver][:i]))
        if len({name for name, _, _ in self.silence[nameserver]}) > 1 and waited > self.schedule.timeout - 1e-6:
            self.retry_at.setdefault(nameserver, self.now + 30)


class ModelCaller:
    """A caller. Its look-up is a generator that yields where it waits, until `waiting` is empty."""

    def __init__(self, model, call):
        self.model, self.call, self.look_up, self.outcome = model, call, self.resolve(), None
        self.waiting, self.outcomes, self.patience = [], {}, math.inf  # for questions of the name under way; by type; for ends of sets

    def go_on(self):
        try:
            next(self.look_up)
        except StopIteration as end:
            self.outcome = end.value, self.model.now

    def cancel(self):
        if self.outcome:
            return
        self.outcome = 'cancelled', self.model.now
        for question in self.waiting:
            question.callers.remove(self)
            if not question.callers:
                for query in question.flight.undecided:
                    if query.question is question:
                        self.model.count_silence(query)
                self.model.close(question)
        for question in self.waiting:
            self.model.end_set_if_decided(question.flight)

    def join(self, question):
        question.callers.append(self)
        self.waiting.append(question)

    def take(self, question, outcome):
        """Takes the outcome of a question that this caller waits for."""
        self.waiting.remove(question)
        self.note(question.qtype, outcome)
        if not self.waiting:
            self.model.at(self.model.now, self.go_on)

    def note(self, qtype, outcome):
        self.outcomes[qtype] = outcome
        if (outcome.records or outcome.alias) and self.patience == math.inf:
            self.patience = 2

    def ask(self, fqdn, qtypes, has_addresses):
        cache, when, new = self.model.cache, self.model.now, []
        self.outcomes, self.patience = {}, 2 if has_addresses else math.inf
        for qtype in qtypes:
            missing, until = cache.missing.get((fqdn, qtype), (None, 0))
            if answer := cache.answer((fqdn, qtype), when):
                self.note(qtype, answer)
            elif when < until and len(self.call.types) == 2:
                self.note(qtype, missing)
            elif question := cache.in_flight.get((fqdn, qtype)):
                self.join(question)
            else:
                new.append(qtype)
        if new:
            self.model.begin(fqdn, new, self)
        if self.waiting:
            yield
        return self.outcomes

    def find(self, fqdn):
        """Returns the outcome of each type, at the end of its aliases, and when the first of these expires."""
        types = self.call.types
        chains, limits = {qtype: [fqdn] for qtype in types}, dict.fromkeys(types, math.inf)
        outcomes = yield from self.ask(fqdn, types, False)
        while aliases := [qtype for qtype in types if outcomes[qtype].alias]:
            target, together = outcomes[aliases[0]].alias, []
            for qtype in [qtype for qtype in aliases if outcomes[qtype].alias == target]:
                limits[qtype] = min(limits[qtype], outcomes[qtype].expires_at)
                if target in chains[qtype]:
                    outcomes[qtype] = ModelOutcome(happened=((self.model.now, 'AliasChainTooLong'),))
                else:
                    chains[qtype].append(target)
                    together.append(qtype)
            if together:
                has_addresses = any(outcome.records for outcome in outcomes.values())
                outcomes = outcomes | (yield from self.ask(target, together, has_addresses))
        return [(outcomes[qtype], limits[qtype]) for qtype in types]

    def resolve(self):
        exists, error = False, ''
        for fqdn in self.model.schedule.candidates(self.call.name):
            found = yield from self.find(fqdn)
            if records := [(text, min(when, limit)) for outcome, limit in found for text, when in outcome.records]:
                return records
            exists |= any(outcome.negative == 'NoRecords' for outcome, _ in found)
            failures = [outcome for outcome, _ in found if outcome.happened]
            if failures:  # the last temporary one, else the last
                _, _, error = max((failure.happened[-1][1] not in BAD_DATA, *failure.happened[-1]) for failure in failures)
                if not all(failure.is_broken for failure in failures):
                    return error  # else one broken search domain does not take all names with it
        return error or ('NoRecords' if exists else 'NameDoesNotExist')


def run_model(schedule, chance=None):
    return Model(schedule, chance).run()


def model_address(nameserver, qtype, number, i):
    return f'10.{nameserver}.{number}.{i}' if qtype == A else f'2001:db8::{nameserver + 1:x}:{number + 1:x}:{i + 1:x}'


def planned_wire(planned, qid, question, qtype, nameserver, number):
    """A reply by hand, since dnspython takes ten times as long."""
    records = []  # type, TTL, data
    if planned.kind == 'addresses':
        texts = [model_address(nameserver, qtype, number, i) for i in range(len(planned.ttls))]
        records = [(qtype, ttl, ipaddress.ip_address(text).packed) for ttl, text in zip(planned.ttls, texts, strict=True)]
    elif planned.kind == 'bad':
        records = [(qtype, 20, b'abc')]
    elif planned.kind == 'alias':
        records = [(5, planned.ttls[0], dns.name.from_text(planned.target).to_wire())]
    elif planned.ttls:
        records = [(6, planned.ttls[0], struct.pack('!H5I', 0, 1, 2, 3, 4, planned.ttls[1]))]
    counts = (0, len(records)) if planned.kind in NEGATIVE else (len(records), 0)
    header = qid + struct.pack('!5H', 0x8180 | {'NXDOMAIN': 3, 'error': 5}.get(planned.kind, 0), 1, *counts, 0)
    return header + question + b''.join(b'\xc0\x0c' + struct.pack('!HHIH', kind, 1, ttl, len(data)) + data for kind, ttl, data in records)


class Network(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer, and whose nameservers are those of a schedule."""

    def __init__(self, schedule):
        super().__init__()
        self.now, self.steps, self.nameservers, self.sockets, self.readers = 1000.0, 0, Nameservers(schedule), set(), {}
        self.add_reader, self.remove_reader, self.time = self.readers.__setitem__, self.readers.pop, lambda: self.now
        self._selector.select = self.jump

    def jump(self, timeout):
        self.steps += 1
        assert self.steps < 100_000, 'the loop spins'
        if timeout != 0:
            self.now = max(self.now, self._scheduled[0].when())
        return []


class VirtualSocket:
    """What stands for the module's Socket in a running Network. A datagram comes by a timer."""

    def __init__(self, *_):
        self.network, self.inbox = asyncio.get_running_loop(), []
        self.network.sockets.add(self)

    def fileno(self):
        return id(self)

    def connect(self, place):
        self.nameserver = int(place[0].rpartition('.')[2])

    def send(self, data):
        end = data.index(0, 12)
        name, qtype = re.sub(rb'[\1-\x1f]', b'.', data[13:end]).decode().lower(), data[end + 2]  # a length parts labels
        planned, number = self.network.nameservers.receive(self.nameserver, name, qtype, when=self.network.now)
        if planned.kind != 'lost':
            datagram = planned_wire(planned, data[:2], data[12:], qtype, self.nameserver, number)
            self.network.call_later(planned.delay, self.receive, datagram)

    def receive(self, datagram):
        self.inbox.append(datagram)
        self.network.readers.get(id(self), ignore)()  # none where it is closed

    def recv(self, size):
        if not self.inbox:
            raise BlockingIOError
        return self.inbox.pop(0)

    def close(self):
        self.network.sockets.remove(self)


def run_module(schedule):
    network, tasks, results = Network(schedule), [], []
    timeout = '' if schedule.timeout == 0.5 else f'timeout:{schedule.timeout}'  # 0.5, the default, cannot be written
    conf = [f'nameserver 192.0.2.{i}\n' for i in range(len(schedule.moods))] + [f'search {" ".join(schedule.search)}\n']
    conf.append(f'options ndots:{schedule.ndots} attempts:{schedule.attempts} {timeout}')

    async def get_nameservers(fqdn):
        for timeout, nameservers in schedule.sets:
            yield timeout, *((f'192.0.2.{i}', 53) for i in nameservers)

    async def call(name, types, _, cancelled_at):
        network.call_at(cancelled_at, asyncio.current_task().cancel)
        try:
            found = await resolve(name, tuple(map(TYPES, types)) if len(types) > 1 else types[0])
            return [(str(each), each.expires_at) for each in found], network.now
        except (m.ResolverError, asyncio.CancelledError) as error:
            return type(error).__name__.replace('CancelledError', 'cancelled'), network.now

    async def main():
        network.call_at(schedule.cleared_at, clear_cache)
        for each in schedule.calls:
            if each.at > network.now:
                await asyncio.sleep(each.at - network.now)
            tasks.append(network.create_task(call(*each)))
        results.extend(await asyncio.gather(*tasks))
        await asyncio.sleep(100)  # longer than any timeout
        if network.sockets or network.readers:
            results.append((f'left open: {[*network.sockets, *network.readers]}', network.now))

    network.set_exception_handler(lambda _, context: results.append((repr(context), network.now)))
    with files(resolv_conf=''.join(conf)), unittest.mock.patch.multiple(m, Socket=VirtualSocket, SOCKET_TYPE=m.NONBLOCK, new_epoll=None):
        resolve, clear_cache = Resolver(get_nameservers=None if schedule.sets is None else get_nameservers)
        with contextlib.closing(network):
            network.run_until_complete(asyncio.wait_for(main(), 1000))
    return results, network.nameservers.sent


def rounded(value):
    if value in BAD_DATA:
        return 'bad data'  # of two types with bad data, either is told
    return round(value, 6) if isinstance(value, float) else [*map(rounded, value)] if isinstance(value, (list, tuple)) else value


def outcome_by(play, schedule, *arguments):
    """Returns the results, and the queries in order, with times that can be compared."""
    try:
        results, sent = play(schedule, *arguments)
    except Exception as error:  # the loop spins, or a look-up hangs
        if play is run_model:
            raise
        results, sent = [(repr(error), 0)], []
    return rounded(results), sorted(rounded(sent), key=lambda each: each[::-1])


def differs(schedule):
    """Tells whether the module does other than the model, unless the order of what happens at one instant decides."""
    model = outcome_by(run_model, schedule)
    in_other_orders = (outcome_by(run_model, schedule, random.Random(seed)) for seed in range(20))
    return model != outcome_by(run_module, schedule) and all(model == each for each in in_other_orders)


def smaller(schedule):
    """Yields schedules with one thing less that differ too."""
    for i, call in enumerate(schedule.calls):
        fewer = [(), *([call._replace(types=(qtype,))] for qtype in call.types), [call._replace(cancelled_at=math.inf)]]
        for calls in ([*schedule.calls[:i], *each, *schedule.calls[i + 1 :]] for each in fewer):
            other = dataclasses.replace(schedule, calls=calls)
            if calls and calls != schedule.calls and differs(other):
                yield other


def compare(seeds):
    """Raises AssertionError with the first schedule, made smaller, in which the module does other than the model, and both outcomes."""
    for seed in seeds:
        schedule = draw_schedule(random.Random(seed))
        if differs(schedule):
            while found := next(smaller(schedule), None):
                schedule = found
            outcomes = [f'{play.__name__}: {outcome_by(play, schedule)}' for play in (run_model, run_module)]
            raise AssertionError('\n'.join([f'seed {seed}', repr(schedule), *outcomes]))


class TestModel:
    """The module does what a slow and simple model does."""

    @pytest.mark.parametrize('first', range(0, 2000, 250), ids='schedules from {} on'.format)
    def test_any_schedule_ends_as_in_a_slow_and_simple_model(self, first):
        compare(range(first, first + 250))


async def started(seconds, *look_ups):
    """Returns look-ups as tasks that have run for so long."""
    tasks = start(*look_ups)
    await asyncio.sleep(seconds)
    return tasks


class TestAttacks:
    """What attacks on the core have found, each with the shortest schedule that showed it."""

    async def test_late_answer_read_for_want_of_a_buffer_strands_no_other_look_up(self, nameserver, fake_sockets):
        silent, late = nameserver(silence), nameserver(silence)
        fake = fake_sockets(sending=lambda _: late.queries and fake.room == 1 and late.send_at_once(four))
        resolve = asking((0.5, late.at), (0.5, silent.at), x=[(5, silent.at)])
        (first,) = await started(0.5, resolve('y.example', TYPES.A))
        fake.room = 1
        (second,) = start(resolve('x.example', TYPES.A))
        assert texts(await first) == ['192.0.2.1']
        fake.room = math.inf
        with pytest.raises(m.ResolverTimeout):
            await second

    async def test_look_up_awaits_no_hook_of_a_name_that_it_has_left(self, nameserver):
        one, good = nameserver(by(A=silence, AAAA=after(1.2, alias('end.example')))), nameserver(by(A=four, AAAA=six))
        two = nameserver(after(0.7 - 1e-10, servfail))  # in the step of the alias, before it
        resolve = asking((0.5, one.at), (9.5, two.at), 30.0, (0.5, good.at), end=[(0.5, good.at)])
        (both,) = await started(0.1, resolve('x.example', BOTH[::-1]))
        four_alone, six_alone = await started(0.1, *(resolve('x.example', qtype) for qtype in BOTH))
        both.cancel()
        assert (texts(await six_alone), now() < 1002) == (['2001:db8::1'], True)
        assert texts(await four_alone) == ['192.0.2.1']

    async def test_hook_whose_close_raises_leaves_no_other_open(self, nameserver):
        closed, server = [], nameserver(silence)

        async def get_nameservers(fqdn):
            try:
                yield 9, server.at
            finally:
                closed.append(fqdn)
                raise ZeroDivisionError

        resolve, _ = Resolver(no_host, get_nameservers)
        singles = await started(0.1, *(resolve('x.example', qtype) for qtype in BOTH))
        both = await started(0.1, resolve('x.example', BOTH))
        await end(*singles, *both)
        assert len(closed) == 2

    async def test_hook_that_goes_on_after_a_late_answer_is_closed_by_the_look_up_that_awaits_it(self, nameserver):
        hook = Sets((0.5, nameserver(after(0.7, four)).at), 1.0, (0.5, nameserver(silence).at), closing=0.2)
        resolve, _ = Resolver(no_host, hook)
        first, other = start(*(resolve('x.example', TYPES.A) for _ in range(2)))
        assert (texts(await other), now(), hook.closed_at) == (['192.0.2.1'], pytest.approx(1000.7), [])
        assert (texts(await first), now(), hook.closed_at) == (['192.0.2.1'], 1001.7, [1001.5])


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


def calls(hosts, difference='', ports=(80,), **options):
    return [((host, port), options, difference) for host in hosts for port in ports]


# Arguments for the C library and for ours, and what differs, by the docstring of `getaddrinfo`.
CALLS = [
    *calls(['four.test', 'FOUR.Test', 'six.test', 'many.test', 'localhost', 'mapped.test', 'bücher.test'], **STREAM),
    *calls([b'four.test', b'192.0.2.1', None, '*', '127.0.0.1', '127.1', '0x7f.1', '2130706433'], **STREAM),
    *calls(['\uff11\uff12\uff17.1', '127\u30021', '1\xb27.1'], **STREAM),
    *calls(['::1', '::ffff:1.2.3.4', 'fe80::1%lo', 'fe80::1%1', '2001:DB8::1'], **STREAM),
    *calls(['both.test'], 'order', **STREAM),
    *calls(['192.0.2.1.'], 'final dot', **STREAM),
    *calls(['four.test.', 'scoped.test'], 'found in the hosts file', **STREAM),
    *calls(['four.test'], ports=[None, 0, 65535, '80', b'80', 'http', 'https', ''], **STREAM),
    *calls(['four.test'], ports=[80, 'http', 'domain']),
    *calls(['192.0.2.1'], ports=[80, 'http', None]),
    *[call for family in (socket.AF_INET, socket.AF_INET6) for call in calls(['both.test'], family=family, **STREAM)],
    *[call for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW, 0) for call in calls(['four.test'], type=kind)],
    *[call for proto in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) for call in calls(['four.test'], proto=proto)],
    *calls(['four.test'], proto=socket.IPPROTO_UDP, **STREAM),
    *calls(['four.test'], flags=socket.AI_NUMERICSERV, **STREAM),
    *calls(['four.test'], flags=socket.AI_ADDRCONFIG, **STREAM),
    *calls(['four.test', None], flags=socket.AI_PASSIVE, **STREAM),
    *calls(['many.test'], flags=socket.AI_CANONNAME, **STREAM),
    *calls(['four.test', 'alias.test'], 'canonical name', flags=socket.AI_CANONNAME, **STREAM),
    # errors
    *calls(['four.test', 'localhost', ''], flags=socket.AI_NUMERICHOST),
    *calls(['127.1', '\u246027.0.0.1', '::ffff:1\u30022.3.4'], flags=socket.AI_NUMERICHOST, **STREAM),
    *calls([None], ports=[None]),
    *calls(['four.test'], ports=['nosuch', -1]),
    *calls(['192.0.2.1'], ports=['nosuch']),
    *calls(['nosuch.test', '', 'a b', 'fe80::1%nosuch']),
    *calls(['four.test'], ports=['http'], flags=socket.AI_NUMERICSERV),
    *[call for family in (socket.AF_UNIX, 99) for call in calls(['four.test'], family=family)],
    *[call for family in (socket.AF_UNIX, socket.AF_INET6) for call in calls(['192.0.2.1'], family=family)],
    *calls(['::1'], family=socket.AF_INET),
    *calls(['four.test'], type=99),
    *calls(['four.test'], proto=99),
    *calls(['four.test'], flags=1 << 20),
    *calls(['a..b', 'a' * 64, '\ud800'], 'UnicodeError'),
]


def outcome_of(call):
    try:
        return [[int(info[0]), int(info[1]), info[2], info[3], list(info[4])] for info in call()]
    except (OSError, UnicodeError) as error:
        return f'{type(error).__name__} {getattr(error, "errno", None)}'


def print_calls():
    """For a process whose hosts file is that above: each call's outcome by the C library and by ours."""
    resolve, _ = Resolver()
    for args, options, _ in CALLS:
        theirs = outcome_of(lambda args=args, options=options: socket.getaddrinfo(*args, **options))
        ours = outcome_of(lambda args=args, options=options: asyncio.run(m.getaddrinfo(resolve, *args, **options)))
        print(json.dumps([theirs, ours]))


SEARCHED = ['a.test', 'b.test', '']  # where a name is looked for: in the search list, and as it is
GIVEN = {  # what is given for A and AAAA, by a letter of the name for each candidate
    'n': (nxdomain, nxdomain), 'o': (nodata, nodata), 's': (servfail, servfail), 'r': (refused, refused),
    'a': (four, nodata), 'b': (nodata, six), 'c': (four, six), 'd': (four, nxdomain), 'e': (nxdomain, six),
    'f': (four, servfail), 'g': (servfail, six), 'h': (nodata, servfail), 'i': (nxdomain, servfail), 'j': (servfail, nodata),
}  # fmt: skip
TEMPORARY = 'rsfghij'  # of these, for one type at least
NDOTS = 1, 0
NAMES = [f'x{"".join(letters)}' for letters in itertools.product(GIVEN, GIVEN, 'na')]


def give_searched(query):
    """The reply for a name like xano: it depends on the letter for the candidate, and so does the address."""
    label, _, domain = name_of(query).partition('.')
    i = SEARCHED.index(domain)
    give = GIVEN[label[1 + i]][query.question[0].rdtype == TYPES.AAAA]
    address = {four: f'192.0.2.{i + 1}', six: f'2001:db8::{i + 1}'}.get(give)
    return (a(address) if address else give)(query)


def print_searches():
    """For a process with files and a network of its own: what each name and family gives, by the C library and by ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack('16sh14x', b'lo', 1))  # SIOCSIFFLAGS, IFF_UP
        sock.bind(('127.0.0.1', 53))

        def serve():
            while True:
                wire, address = sock.recvfrom(4096)
                sock.sendto(give_searched(dns.message.from_wire(wire)), address)

        threading.Thread(target=serve, daemon=True).start()
        for ndots in NDOTS:
            options = f'options ndots:{ndots} timeout:1 attempts:1'
            pathlib.Path('/etc/resolv.conf').write_text(f'nameserver 127.0.0.1\nsearch {" ".join(SEARCHED)}\n{options}\n')
            with asyncio.Runner() as runner:
                find = functools.partial(m.getaddrinfo, Resolver()[0])
                for name, family in itertools.product(NAMES, (socket.AF_INET, socket.AF_INET6, 0)):
                    theirs = outcome_of(lambda name=name, family=family: socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM))
                    ours = outcome_of(functools.partial(runner.run, find(name, 80, family=family, **STREAM)))
                    print(json.dumps([ndots, name, family, theirs, ours]))


def output_in_namespaces(directory, conf, hosts, argument, *options):
    """What `python test.py` prints with this argument in a process with files of its own in /etc."""
    (directory / 'hosts').write_text(hosts)
    (directory / 'resolv.conf').write_text(conf)
    mounts = [f'mount --bind {directory}/{name} /etc/{name}' for name in ('hosts', 'resolv.conf')]
    run_ = f'{shlex.quote(sys.executable)} {shlex.quote(str(HERE / "test.py"))} {argument}'
    command = ' && '.join(['mount --make-rprivate /', *mounts, run_])
    done = subprocess.run(['unshare', '--mount', *options, 'sh', '-c', command], capture_output=True, text=True, timeout=100, cwd=HERE)
    if 'unshare' in done.stderr or 'mount:' in done.stderr:
        needs_what_is_missing(f'root and namespaces: {done.stderr}')
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


FOURS = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', (f'192.0.2.{i}', 443)) for i in (1, 2)]
SIXES = [(socket.AF_INET6, socket.SOCK_STREAM, 6, '', ('2001:db8::1', 443, 0, 0))]


async def error_of_getaddrinfo(*args, **options):
    with pytest.raises(socket.gaierror) as caught:
        await m.getaddrinfo(*args, **options)
    return caught.value


class TestGetaddrinfo:
    """`getaddrinfo`, beside that of the C library."""

    def test_outcome_is_that_of_the_c_library_but_for_named_differences(self, tmp_path):
        lines = output_in_namespaces(tmp_path, 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n', C_HOSTS, 'calls')
        assert len(lines) == len(CALLS) >= 60
        for (args, options, difference), (theirs, ours) in zip(CALLS, lines, strict=True):
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

    def test_search_ends_as_that_of_the_c_library_but_for_named_differences(self, tmp_path):  # docs/comparison.md names them
        found = output_in_namespaces(tmp_path, '', '127.0.0.1 localhost', 'searches', '--net')
        assert len(found) == len(NDOTS) * len(NAMES) * 3 > 2000
        seen = collections.Counter()
        again, none, no_records = (f'gaierror {code}' for code in (socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_NODATA))
        for ndots, name, _, *outcomes in found:
            theirs, ours = (each if isinstance(each, str) else {info[4][0] for info in each} for each in outcomes)
            if theirs == ours:
                kind = 'equal'
            elif isinstance(ours, set) and name[1] == 'r':  # after REFUSED it skips what is left of the search list
                kind = 'refused' if isinstance(theirs, str) or theirs == {'192.0.2.3'} else 'other'
            elif ours == again and set(name) & set(TEMPORARY):  # it forgets the error of one candidate
                kind = 'temporary' if theirs in (none, no_records) else 'other'
            else:  # it does not count what it finds of longer names, after one that does not exist
                kind = 'no records' if (ndots, theirs, ours) == (0, none, no_records) else 'other'
            seen[kind] += 1
        assert seen['equal'] > 0.7 * len(found), seen
        assert set(seen) == {'equal', 'refused', 'temporary', 'no records'}

    @pytest_asyncio.fixture
    async def both(self, resolving, monkeypatch):
        """A nameserver that has a name in both families, and its `resolve`. There is a route to each address."""
        monkeypatch.setattr(m, 'has_route', unittest.mock.Mock(return_value=True))
        return resolving(after(0.1, by(A=a('192.0.2.1', '192.0.2.2'), AAAA=six)))

    @cases('host, asked', {
        'name': ('www.example.com', 'www.example.com'),
        'name with a digit first': ('3com.example', '3com.example'),
        'name with a wide digit first': ('\uff13com.example', '3com.example'),
    })  # fmt: skip
    async def test_c_library_is_never_asked_for_a_name_which_is_the_canonical_one(self, both, monkeypatch, host, asked):
        server, resolve = both
        of_c = unittest.mock.Mock(side_effect=socket.getaddrinfo)
        monkeypatch.setattr(m.socket, 'getaddrinfo', of_c)
        monkeypatch.setattr(m, 'is_configured', lambda *_: True)
        m.find_entries.cache_clear()
        infos = await m.getaddrinfo(resolve, host, 80, family=socket.AF_INET, flags=socket.AI_CANONNAME | socket.AI_ADDRCONFIG)
        assert [info[3] for info in infos] == [host, *[''] * 5]  # two addresses, three types of sockets
        assert all(call.args[0].isascii() and call.args[5] & socket.AI_NUMERICHOST for call in of_c.mock_calls)
        assert of_c.mock_calls[-1].args[5] == socket.AI_NUMERICHOST
        assert server.names == [asked]

    @pytest.mark.parametrize('scope_id', ['nosuch', '\xb2', 'a\0b', '9' * 11, '9' * 5000])
    async def test_scope_id_of_the_hosts_file_that_makes_no_sense_is_an_error(self, nameserver, scope_id):
        with system(nameserver(), hosts=f'fe80::1%{scope_id} x.example') as resolve:
            assert (await error_of_getaddrinfo(resolve, 'x.example', 80)).errno == socket.EAI_NONAME

    @cases('family, has_route, asked, expected', {
        'IPv4': (socket.AF_INET, True, [1], FOURS),
        'IPv6': (socket.AF_INET6, True, [28], SIXES),
        'both': (socket.AF_UNSPEC, True, [28, 1], SIXES + FOURS),
        'both, without a route to IPv6': (socket.AF_UNSPEC, False, [28, 1], FOURS + SIXES),
    })  # fmt: skip
    async def test_family_and_route_decide_what_is_asked_for_without_a_task_and_comes_first(self, both, family, has_route, asked, expected):
        server, resolve = both
        m.has_route.return_value = has_route
        (looking,) = start(m.getaddrinfo(resolve, 'www.example.com', 443, family=family, **STREAM))
        with no_new_tasks():
            assert await looking == expected
        assert (server.types, server.times) == (asked, [1000] * len(asked))
        assert m.has_route.mock_calls == ([] if family else [unittest.mock.call('2001:db8::1', 0, 1000)])

    def test_route_is_found_without_a_datagram(self):
        assert m.has_route('::1', 0, 1)
        assert not m.has_route('fe80::1', 0, 1)  # which takes a scope id
        with unittest.mock.patch.object(socket.socket, 'connect') as connect:
            assert m.has_route('fe80::1', 7, 1)
        connect.assert_called_once_with(('fe80::1', 9, 0, 7))

    @cases('configured, family, asked', {
        'IPv4': ({1}, 0, [1]),
        'IPv6': ({28}, 0, [28]),
        'both': ({1, 28}, 0, [28, 1]),
        'none': (set(), 0, [28, 1]),
        'IPv4, which is asked for': ({1}, socket.AF_INET, [1]),
        'IPv4, where IPv6 is asked for': ({1}, socket.AF_INET6, []),
    })  # fmt: skip
    async def test_addrconfig_asks_only_for_configured_families(self, both, monkeypatch, configured, family, asked):
        monkeypatch.setattr(m, 'is_configured', lambda qtype, _: qtype in configured)
        server, resolve = both
        no_such_addresses = pytest.raises(socket.gaierror, match=rf'^\[Errno {socket.EAI_NONAME}\] .* no such addresses$')
        with contextlib.nullcontext() if asked else no_such_addresses:
            await m.getaddrinfo(resolve, 'www.example.com', 80, family=family, flags=socket.AI_ADDRCONFIG)
        assert server.types == asked

    def test_configured_families_are_those_of_the_c_library(self, monkeypatch):
        m.is_configured.cache_clear()
        answers = [[()], socket.gaierror(socket.EAI_NONAME, 'no')]
        monkeypatch.setattr(m.socket, 'getaddrinfo', unittest.mock.Mock(side_effect=answers))
        assert (m.is_configured(TYPES.A, -1), m.is_configured(TYPES.AAAA, -1)) == (True, False)
        flags = socket.AI_NUMERICHOST | socket.AI_ADDRCONFIG
        calls = m.socket.getaddrinfo.mock_calls
        assert [(call.args[2], call.kwargs['flags']) for call in calls] == [(socket.AF_INET, flags), (socket.AF_INET6, flags)]
        m.is_configured.cache_clear()

    @cases('given, code, cause', {
        'NXDOMAIN': (nxdomain, socket.EAI_NONAME, m.NameDoesNotExist),
        'NODATA': (nodata, socket.EAI_NODATA, m.NoRecords),
        'SERVFAIL': (servfail, socket.EAI_AGAIN, m.ResponseCodeError),
        'silence': (silence, socket.EAI_AGAIN, m.ResolverTimeout),
        'loop': (aliases_in_a_loop, socket.EAI_FAIL, m.AliasChainTooLong),
        'bad address': (bad_address, socket.EAI_FAIL, m.BadAddress),
        'answer too long': (truncated_and_empty, socket.EAI_FAIL, m.AnswerTooLong),
    })  # fmt: skip
    async def test_errors_are_gaierrors_with_our_message(self, nameserver, given, code, cause):
        error = await error_of_getaddrinfo(asking((0.5, nameserver(given).at)), 'www.example.com', 80)
        assert (error.errno, type(error.__cause__), error.strerror) == (code, cause, str(error.__cause__))
        assert 'www.example.com AAAA, A: ' in str(error)

    @cases('host, port, codes', {  # without AI_NUMERICHOST, and with it
        'unknown service': ('www.example.com', 'nosuch', [socket.EAI_SERVICE] * 2),
        'empty label': ('a..b', 80, [socket.EAI_NONAME] * 2),
        'surrogate': ('\ud800', 80, [socket.EAI_NONAME] * 2),
        'bytes that are no text': (b'\xff\xfe', 80, [socket.EAI_NONAME] * 2),
        'three hundred digits': ('1' * 300, 80, [socket.EAI_NONAME] * 2),
        'NUL after an address': ('127.0.0.1\0.trusted.example', 80, [socket.EAI_NONAME] * 2),
        'NUL after an address of IPv6': ('::1\0.trusted.example', 80, [socket.EAI_NONAME] * 2),
        'NUL after an address, in octets': (b'127.0.0.1\0', 80, [socket.EAI_NONAME] * 2),
        'ideographs after a digit': ('1' + ''.join(map(chr, range(0x4E00, 0x4E00 + 4000))), 80, [socket.EAI_NONAME] * 2),
        'name and port': ('web:80', 80, [socket.EAI_NONAME] * 2),
        'surrogate as service': ('www.example.com', '\ud800', [socket.EAI_SERVICE, socket.EAI_NONAME]),
    })  # fmt: skip
    async def test_bad_input_sends_nothing(self, both, host, port, codes):
        server, resolve = both
        with unittest.mock.patch('socket.getaddrinfo', wraps=socket.getaddrinfo) as of_c:
            errors = [await error_of_getaddrinfo(resolve, host, port, flags=flags) for flags in (0, socket.AI_NUMERICHOST)]
        assert [error.errno for error in errors] == codes
        for given in [call.args[0] for call in of_c.mock_calls if call.args[0] is not None]:
            assert (len(given) < 256, given.isascii(), '\0' in given) == (True, True, False)
        assert server.queries == []

    async def test_host_of_another_type_is_a_type_error(self, clock):
        with pytest.raises(TypeError, match='must be string or None'):
            await m.getaddrinfo(Resolver()[0], 5, 80)

    async def test_address_of_a_family_not_asked_for_is_left_out(self, clock):
        resolve, _ = Resolver(get_host=Hosts(ipaddress.ip_address('192.0.2.1')))
        assert len(await m.getaddrinfo(resolve, 'x.example', 80, family=socket.AF_INET, **STREAM)) == 1
        error = await error_of_getaddrinfo(resolve, 'x.example', 80, family=socket.AF_INET6)
        assert (error.errno, 'x.example: none of its addresses is of use' in str(error)) == (socket.EAI_NONAME, True)

    async def test_errors_of_hooks_and_cancellation_pass(self, resolving):
        with pytest.raises(ZeroDivisionError):
            await m.getaddrinfo(Resolver(get_host=Hosts(ZeroDivisionError()))[0], 'www.example.com', 80)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.1):
                await m.getaddrinfo(resolving(silence)[1], 'www.example.com', 80)
        assert not isinstance(caught.value, socket.gaierror)

    async def test_name_of_a_class_of_its_own_is_its_characters(self, resolving):
        class Name(str):
            def __str__(self):
                return 'another.example'

        server, resolve = resolving(four)
        await m.getaddrinfo(resolve, Name('www.example'), 80, family=socket.AF_INET)
        assert server.names == ['www.example']

    async def test_mapped_addresses_are_not_given(self, both):
        server, resolve = both
        options = {'family': socket.AF_INET6, 'flags': socket.AI_V4MAPPED | socket.AI_ALL, **STREAM}
        assert (await m.getaddrinfo(resolve, 'www.example.com', 443, **options), server.types) == (SIXES, [28])

    async def test_route_is_that_of_the_first_address_of_ipv6_with_its_scope_id(self, both, nameserver):
        with system(nameserver(), hosts='192.0.2.1 db\nfe80::1%lo db\n2001:db8::1 db') as resolve:
            infos = await m.getaddrinfo(resolve, 'db', 80, **STREAM)
        assert [info[4][0] for info in infos] == ['fe80::1', '2001:db8::1', '192.0.2.1']
        m.has_route.assert_called_once_with('fe80::1', socket.if_nametoindex('lo'), 1000)

    @cases('host', {'IPv4': '192.0.2.1', 'short IPv4': '127.1', 'IPv6': '2001:DB8::1'})
    async def test_canonical_name_of_an_address_is_that_of_the_c_library(self, clock, host):
        options = {'flags': socket.AI_CANONNAME, **STREAM}
        (info,) = await m.getaddrinfo(Resolver()[0], host, 80, **options)
        assert [info] == socket.getaddrinfo(host, 80, **options)
        assert info[3]


class OtherLoop:
    """A loop that is not asyncio's own, whose `create_connection` calls no `getaddrinfo`. Its errors are by the last part of an address."""

    def __init__(self, errors=()):
        self.errors, self.calls = dict(errors), []

    async def create_connection(self, factory, host=None, port=None, **options):
        self.calls.append((host, port, options))
        protocol = factory()
        if error := self.errors.get(str(host).rpartition('.')[2]):
            raise error
        return protocol, host


async def connect_on(loop, *args, **options):
    """Connects by a name that has three addresses. The factory of protocols is called once."""
    m.install(unittest.mock.AsyncMock(return_value=tuple(m.IPv4AddressExpiresAt(f'192.0.2.{i}', 0) for i in (1, 2, 3))), loop)
    factory = unittest.mock.Mock(return_value='a protocol')
    try:
        return await loop.create_connection(factory, *args, **options)
    finally:
        factory.assert_called_once_with()


class TestInstall:
    """`install`: the loop connects by name through `resolve`."""

    @in_each_loop
    def test_loop_connects_by_name(self, loop_factory):
        async def main():
            m.install(fake)
            listening = await asyncio.start_server(lambda _, writer: writer.close(), '127.0.0.1', 0)
            port = listening.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection('www.example.com', port)
            assert (await reader.read(), writer.get_extra_info('peername')) == (b'', ('127.0.0.1', port))
            writer.close()
            with socket.socket() as sock:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ('127.0.0.1', port))
                _, writer = await asyncio.open_connection(sock=sock.dup())
                writer.close()
            m.install(other)  # in its place
            with pytest.raises(socket.gaierror, match='www.example.com: no'):
                await asyncio.open_connection('www.example.com', port)
            listening.close()
            await listening.wait_closed()
            with pytest.raises(ValueError, match='host'):
                await asyncio.get_running_loop().create_connection(asyncio.Protocol)

        fake = unittest.mock.AsyncMock(return_value=(m.IPv4AddressExpiresAt('127.0.0.2', 0), m.IPv4AddressExpiresAt('127.0.0.1', 0)))
        other = unittest.mock.AsyncMock(side_effect=m.NameDoesNotExist('www.example.com: no'))
        run(main(), loop_factory)
        fake.assert_called_once_with('www.example.com', (TYPES.AAAA, TYPES.A))

    def test_loop_is_the_one_given_or_else_the_one_that_runs(self):
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            m.install('resolve', loop)
            assert (loop.getaddrinfo.func, loop.getaddrinfo.args) == (m.getaddrinfo, ('resolve',))
            assert loop.create_connection.__func__ is asyncio.BaseEventLoop.create_connection
        with pytest.raises(RuntimeError, match='no running event loop'):
            m.install('resolve')

    async def test_one_address_after_the_other_is_tried_with_what_was_given(self):
        loop = OtherLoop({'1': ConnectionRefusedError(111, 'one'), '2': OSError(113, 'two')})
        assert await connect_on(loop, 'www.example.com', 80, ssl=True, limit=3) == ('a protocol', '192.0.2.3')
        expected = {'family': socket.AF_INET, 'proto': socket.IPPROTO_TCP, 'ssl': True, 'limit': 3, 'server_hostname': 'www.example.com'}
        assert loop.calls == [(f'192.0.2.{i}', 80, expected) for i in (1, 2, 3)]

    @cases('host, options, expected', {
        'plain': ('www.example.com', {'ssl': None}, ('192.0.2.1', None)),
        'TLS, another name': ('www.example.com', {'ssl': True, 'server_hostname': 'x.example'}, ('192.0.2.1', 'x.example')),
        'TLS, no name is checked': ('www.example.com', {'ssl': True, 'server_hostname': ''}, ('192.0.2.1', '')),
        'scope id': ('fe80::1%lo', {}, (f'fe80::1%{socket.if_nametoindex("lo")}', None)),
        'IPv6': ('::1', {'ssl': True}, ('::1', '::1')),
    })  # fmt: skip
    async def test_address_and_the_name_of_tls_are_those_given(self, host, options, expected):
        loop = OtherLoop()
        await connect_on(loop, host, 443, **options)
        assert [(address, given['server_hostname']) for address, _, given in loop.calls] == [expected]

    @cases('host, errors, says', {
        'one address': ('192.0.2.7', {'7': OSError(111, 'refused')}, r'^\[Errno 111\] refused$'),
        'one error': ('www.example.com', {i: OSError(111, 'refused') for i in '123'}, r'^\[Errno 111\] refused$'),
        'several errors': ('www.example.com', {i: OSError(1, i) for i in '123'}, r'^Multiple exceptions: \[Errno 1\] 1, .* 2, .* 3$'),
        'certificate of a peer that was reached': ('www.example.com', {'1': ssl.SSLCertVerificationError(1, 'bad')}, 'bad'),
        'handshake that was ended': ('www.example.com', {'1': ConnectionAbortedError('handshake')}, 'handshake'),
        'connection that was reset': ('www.example.com', {'1': ConnectionResetError('reset')}, 'reset'),
        'error of another kind': ('www.example.com', {'1': ZeroDivisionError('other')}, 'other'),
    })  # fmt: skip
    async def test_error_is_that_of_the_one_address_or_of_all_or_of_a_peer(self, host, errors, says):
        loop = OtherLoop(errors)
        with pytest.raises((OSError, ZeroDivisionError), match=says) as caught:
            await connect_on(loop, host, 443, ssl=True)
        assert caught.value in errors.values() or caught.value.__cause__ is errors['3']
        assert len(loop.calls) == len(errors)

    async def test_call_without_a_host_is_passed_on(self):
        loop = OtherLoop()
        assert await connect_on(loop, sock='a socket', ssl=True) == ('a protocol', None)
        assert loop.calls == [(None, None, {'family': 0, 'proto': 0, 'flags': 0, 'server_hostname': None, 'sock': 'a socket', 'ssl': True})]

    async def test_name_is_looked_up_by_the_family_protocol_and_flags_given(self):
        loop, given = OtherLoop(), {'family': socket.AF_INET6, 'proto': socket.IPPROTO_TCP, 'flags': socket.AI_ADDRCONFIG}
        m.install(None, loop)
        infos = [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, '', ('2001:db8::1', 80, 0, 0))]
        loop.getaddrinfo = unittest.mock.AsyncMock(return_value=infos)
        await loop.create_connection(asyncio.Protocol, 'www.example.com', 80, **given)
        loop.getaddrinfo.assert_called_once_with('www.example.com', 80, type=socket.SOCK_STREAM, **given)

    @in_each_loop
    def test_sock_connect_finds_names_by_resolve(self, loop_factory):
        async def main():
            m.install(fake)
            with socket.create_server(('127.0.0.1', 0)) as listening, socket.socket() as sock:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, ('www.invalid', listening.getsockname()[1]))

        fake = unittest.mock.AsyncMock(return_value=(m.IPv4AddressExpiresAt('127.0.0.1', 0),))
        run(main(), loop_factory)
        fake.assert_called_once_with('www.invalid', TYPES.A)


COMMAND = [sys.executable, '-m', 'aiodnsresolver']
FOUR, SIX = r'\d+\tA\twww.zone.example\t192.0.2.1\n', r'\d+\tAAAA\twww.zone.example\t2001:db8::1\n'
LOCALHOST = r'0\tA\tlocalhost\t127.0.0.1\n'


class TestCommand:
    """`python -m aiodnsresolver`."""

    @pytest.fixture
    def call(self, capfd):
        """`call('localhost', 'A')` is the exit status, the output, and what stands on standard error."""
        yield lambda *args: (m.main(args), *capfd.readouterr())
        m.logger.handlers.clear()
        m.logger.setLevel(logging.NOTSET)

    @pytest.fixture
    def sigint_is_heard(self):
        """Also where these tests run in the background of a shell, which has SIGINT ignored by all that it starts there."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @cases('args, status, out, err', {
        'name': ('www.zone.example', 0, FOUR + SIX, ''),
        'types in small letters': ('www.zone.example aaaa a', 0, SIX + FOUR, ''),
        'one family of two': ('only4.zone.example', 0, r'\d+\tA\tonly4.zone.example\t192.0.2.4\n', ''),
        'no record': ('only4.zone.example AAAA', 1, '', r'only4.zone.example AAAA: has no such record: .*\n'),
        'no record of two': ('only4.zone.example AAAA txt', 1, '', r'only4.zone.example AAAA: has .*\nonly4.zone.example TXT: has .*\n'),
        'no name': ('nothing.zone.example', 1, '', r'nothing.zone.example A, AAAA: does not exist: .*\n'),
        'refused': ('elsewhere.example A', 2, '', r'elsewhere.example A: .* answered REFUSED \(2 times\)\n'),
        'bad name': ('a..b A TXT', 2, '', r"'a..b' is not a valid name: it has an empty label\n"),
        'URL': ('http://www.example.com/', 2, '', r"'http://www.example.com/' is not a valid name: .*: write www.example.com\n"),
        'IPv4 address': ('127.0.0.1 A', 0, r'-\tA\t127.0.0.1\t127.0.0.1\n', ''),
        'IPv4 address, other type': ('192.0.2.1 AAAA', 1, '', r'192.0.2.1 AAAA: an IPv4 address has nothing else\n'),
        'IPv6 address': ('::1', 0, r'-\tAAAA\t::1\t::1\n', ''),
        'text with odd octets': ('text.zone.example txt', 0, r'\d+\tTXT\t.*\tsome thing\\009with "quotes" and \\092 in it\n', ''),
        'alias, short': ('outside.zone.example Cname --short', 0, r'www.elsewhere.example\n', ''),
        'alias with a space': ('space.zone.example cname', 0, r'\d+\tCNAME\t.*\ta\\032b.zone.example\n', ''),
        'one type of two': ('text.zone.example TXT A', 0, r'\d+\tTXT\t.*\n', ''),
        'two types of two': (
            'txt.zone.example outside.zone.example txt cname', 0, r'\d+\tTXT\ttxt.zone.*\n\d+\tCNAME\toutside.zone.example\twww.*\n',
            r'outside.zone.example TXT \(an alias: www.elsewhere.example\): .* answered REFUSED \(2 times\)\n',
        ),
        'type given twice': ('txt.zone.example TXT txt', 0, r'\d+\tTXT\ttxt.zone.example\tsome text\n', ''),
        'one name of two': ('nothing.zone.example www.zone.example A', 1, FOUR, 'nothing.zone.example A: .*\n'),
        'neither name of two': ('a..b nothing.zone.example', 2, '', r"'a..b' is not a valid name.*\nnothing.zone.example A, AAAA: .*\n"),
        'localhost': ('localhost A', 0, LOCALHOST, ''),
        'options among words': ('--timeout 4 localhost --timeout 3 A', 0, LOCALHOST, ''),
        'IPv4, short': ('www.zone.example -4 --short', 0, r'192.0.2.1\n', ''),
        'IPv6': ('-6 www.zone.example', 0, SIX, ''),
        'IPv6 and IPv4': ('-6 www.zone.example -4', 0, SIX + FOUR, ''),
        'JSON': ('localhost 1.2.3.4 A --json', 0, r'{"name": "localhost", "type": "A", "value": "127.0.0.1", "ttl": 0}\n{.*null}\n', ''),
        'error as JSON': ('no.zone.example A --json', 1, r'{"name": "no.zone.example", "error": "no.zone.example A: .*"}\n', 'no.*\n'),
        'verbose': ('only4.zone.example -4 -v', 0, '.*\n', r'only4.zone.example A: .*:\d+ answered 192.0.2.4, TTL 300, in \d+\.\d ms\n'),
        'verbose, no record': ('only4.zone.example -6 -v', 1, '', r'.* AAAA: .* answered with no such record, in .*\n.* has no .*\n'),
    })  # fmt: skip
    def test_records_are_printed_or_the_reason_why_not(self, nsd, call, args, status, out, err):
        found = call(*args.split(), '--nameserver', f'127.0.0.1:{nsd[1]}', '--timeout', '5')
        assert found[0] == status
        assert re.fullmatch(out, found[1])
        assert re.fullmatch(err, found[2])

    def test_error_of_one_type_outweighs_that_the_other_has_no_record(self, call):
        resolve = unittest.mock.AsyncMock(side_effect=[m.NoRecords('x A'), m.ResolverTimeout('x TXT')])
        with unittest.mock.patch('aiodnsresolver.Resolver', return_value=(resolve, None)):
            assert call('x', 'A', 'TXT') == (2, '', 'x A\nx TXT\n')

    @cases('expires_at, ttl', {
        'now': (1000, '0'), 'a while ago': (999, '0'), 'in a part of a second': (1029.2, '30'), 'never': (math.inf, '-'),
    })  # fmt: skip
    async def test_ttl_is_printed_in_whole_seconds(self, clock, capsys, expires_at, ttl):
        address = m.IPv4AddressExpiresAt('192.0.2.1', expires_at)
        assert m.print_name('x', [(TYPES.A, address)], [], types.SimpleNamespace(json=False, short=False)) == 0
        assert capsys.readouterr().out == f'{ttl}\tA\tx\t192.0.2.1\n'

    def test_exception_that_is_none_of_ours_is_raised(self):
        resolve = unittest.mock.AsyncMock(side_effect=ZeroDivisionError)
        with unittest.mock.patch('aiodnsresolver.Resolver', return_value=(resolve, None)), pytest.raises(ZeroDivisionError):
            m.main(['www.example.com'])

    @cases('args, says', {
        'nothing': ('', 'NAME'),
        'type alone': ('A', 'a NAME is needed'),
        'nameserver as of dig': ('x @127.0.0.1', '--nameserver 127.0.0.1'),
        'option alone': ('-4', 'NAME'),
        'other type alone': ('MX', 'write one of A, CNAME, TXT, AAAA, or MX. with a final dot if it is a name'),
        'other type': ('example.com mx', 'mx is not a type that can be asked for: write one of A, CNAME, TXT, AAAA'),
        'option cut short': ('x --time 1', '--time'),
        'timeout that is no number': ('x --timeout soon', "invalid float value: 'soon'"),
        'timeout of nothing': ('x --timeout 0', 'timeout must be a number of seconds above 0, not 0.0'),
        'timeout below nothing': ('x --timeout=-1', 'timeout must be a number of seconds above 0, not -1.0'),
        'timeout without end': ('x --timeout inf', 'timeout must be a number of seconds above 0, not inf'),
        'timeout that is not a number': ('x --timeout nan', 'timeout must be a number of seconds above 0, not nan'),
        'nameserver by name': ('x --nameserver dns.example', "'dns.example' is not IP"),
        'port 0': ('x --nameserver 127.0.0.1:0', '0 is not a valid port'),
        'port that is no number': ('x --nameserver 127.0.0.1:x', "'127.0.0.1:x' is not IP"),
        'port of IPv6 that is no number': ('x --nameserver [::1]:x', 'is not IP'),
        'IPv6 and port without brackets': ('x --nameserver ::1:53', 'write [::1]:53 for the port, or [::1:53] for the address'),
    })  # fmt: skip
    def test_wrong_call_is_told_with_status_2(self, capsys, args, says):
        with pytest.raises(SystemExit, match='2'):
            m.main(args.split())
        assert says in capsys.readouterr().err

    @cases('word, expected', {
        'IPv4': ('192.0.2.1', ('192.0.2.1', 53)),
        'IPv4 and port': ('192.0.2.1:5353', ('192.0.2.1', 5353)),
        'IPv6': ('2001:db8::1', ('2001:db8::1', 53)),
        'IPv6 in brackets': ('[2001:db8::1]', ('2001:db8::1', 53)),
        'IPv6 that ends in 53': ('2001:db8::53', ('2001:db8::53', 53)),
        'IPv6 that ends in 1:53': ('[2001:db8::1:53]', ('2001:db8::1:53', 53)),
        'IPv6 and port': ('[2001:db8::1]:5353', ('2001:db8::1', 5353)),
    })  # fmt: skip
    def test_nameserver_is_parsed(self, word, expected):
        assert m.parse_nameserver(word)[1:] == expected
        with pytest.raises(ValueError, match='is not IP'):
            m.parse_nameserver(f'{word}\n')

    def test_help_and_version_are_printed_and_the_examples_are_right(self, capsys):
        for option in ('--version', '--help'):
            with pytest.raises(SystemExit, match='0'):
                m.main([option])
        version, _, text = capsys.readouterr().out.partition('\n')
        assert version == m.__version__
        assert '%' not in text
        options = {word.rstrip(',') for word in re.findall(r'^  (-\S+)', text, re.MULTILINE)}
        assert options == {'-h', '-4', '-6', '--short', '--json', '--nameserver', '--timeout', '-v', '--version'}
        assert 'exit status: 0 when every name has a record' in text
        examples = [shlex.split(line.split('  ')[0]) for line in re.findall(r'^  (python -m aiodnsresolver .*)$', text, re.MULTILINE)]
        parsed = [m.parse_arguments(example[3:]) for example in examples]
        assert [options.qtypes for options in parsed] == [[1, 28], [28], [16], [1, 28], [1, 28]]
        assert [m.parse_nameserver(word)[1:] for word in parsed[-1].nameserver] == [('192.0.2.53', 53), ('2001:db8::53', 5353)]

    @pytest.mark.parametrize('words', ['mx', 'MX. ns. a.'])
    def test_name_spelled_like_a_type_can_be_asked_for(self, words):
        assert m.parse_arguments(words.split()).names == words.split()

    def test_imports_of_the_command_alone_are_made_when_it_runs(self):
        code = 'import asyncio, sys; before = set(sys.modules); import aiodnsresolver; print(*sorted(set(sys.modules) - before))'
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=HERE, timeout=30)
        assert not {'argparse', 'json', 'signal', 'dns', 'aiodns'} & set(done.stdout.split())

    @cases('is_given', {'nameserver of resolv.conf': False, 'nameserver given': True})
    @cases('args, times', {
        'default': ([], [1000, 1000.5, 1001, 1001.5, 1002]), 'seven seconds': (['--timeout=7'], [1000, 1007, 1014, 1021, 1028]),
    })  # fmt: skip
    async def test_timeout_is_for_each_try(self, nameserver, caplog, is_given, args, times):
        server, other = nameserver(silence), nameserver(silence, address='127.0.0.2')
        with system(other if is_given else server, search='a.example\nnameserver nonsense'), pytest.raises(m.ResolverTimeout):
            await m.parse_arguments(['x', *args, *[f'--nameserver={server.text}'] * is_given]).resolve('name', TYPES.A)
        assert (server.names, server.times, other.queries) == (['name.a.example'] * 5, times, [])
        assert {query.name for query in server.queries} != {'name.a.example'}  # but in mixed case
        assert ('nonsense' in caplog.text) == (not is_given)

    @cases('out, says', {
        'full': ('/dev/full', '[Errno 28] No space left on device'), 'closed': ('&-', '[Errno 9] standard output is closed'),
    })  # fmt: skip
    def test_output_that_cannot_be_written_has_status_2(self, out, says):
        call = f'PYTHONUNBUFFERED= {shlex.join(COMMAND)} localhost A >{out}'
        done = subprocess.run(call, shell=True, stderr=subprocess.PIPE, cwd=HERE, timeout=30, text=True)
        assert (done.returncode, done.stderr) == (2, f'The command failed: {says}\n')

    def test_output_that_cannot_be_written_has_status_2_in_this_process(self, monkeypatch, capsys):
        with monkeypatch.context() as patched:
            patched.setattr(signal, 'signal', lambda *_: None)
            patched.setattr(os, 'dup2', lambda old, new: os.close(old))
            patched.setattr(m, 'main', unittest.mock.Mock(side_effect=OSError(errno.ENOSPC, 'full')))
            for stdout in (sys.stdout, None):
                patched.setattr(sys, 'stdout', stdout)
                with pytest.raises(SystemExit, match='2'):
                    m.run()
        assert capsys.readouterr().err == 'The command failed: [Errno 28] full\nThe command failed: [Errno 9] standard output is closed\n'

    def test_message_for_a_closed_standard_error_is_not_among_the_records(self):
        call = f'{shlex.join(COMMAND)} a..b localhost -4 --short 2>&-'
        done = subprocess.run(call, shell=True, stdout=subprocess.PIPE, cwd=HERE, timeout=30, text=True)
        assert (done.returncode, done.stdout) == (2, '127.0.0.1\n')

    def test_ctrl_c_ends_it_without_a_traceback(self, sigint_is_heard):
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
            server.bind(('::1', 0))
            call = [*COMMAND, 'www.example.com', '-4', '--timeout', '30', '--nameserver', f'[::1]:{server.getsockname()[1]}']
            with subprocess.Popen(call, stdout=-1, stderr=-1, cwd=HERE) as process:
                server.recv(512)  # it has asked
                process.send_signal(signal.SIGINT)
                assert process.communicate(timeout=60) == (b'', b'')
        assert process.returncode == -signal.SIGINT  # 130 in a shell

    def test_output_is_what_can_be_shown_and_a_closed_pipe_is_no_error(self):
        call = [*COMMAND, 'bücher.localhost', 'A']
        done = subprocess.run(call, capture_output=True, cwd=HERE, env={**os.environ, 'PYTHONIOENCODING': 'ascii'}, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, b'0\tA\tb\\xfccher.localhost\t127.0.0.1\n', b'')
        receiver, sender = os.pipe()
        os.close(receiver)
        done = subprocess.run(call, stdout=sender, stderr=subprocess.PIPE, cwd=HERE, timeout=30)
        os.close(sender)
        assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b'')  # 141 in a shell

    @cases('heard, set_', {
        'heard': (signal.default_int_handler, [signal.SIGINT, signal.SIGPIPE]), 'ignored': (signal.SIG_IGN, [signal.SIGPIPE]),
    })  # fmt: skip
    def test_signals_end_it_unless_ignored(self, monkeypatch, heard, set_):
        changed = []
        monkeypatch.setattr(signal, 'getsignal', lambda _: heard)
        monkeypatch.setattr(signal, 'signal', lambda *args: changed.append(args))
        monkeypatch.setattr(m, 'main', lambda: 1)
        with pytest.raises(SystemExit, match='1'):
            m.run()
        assert changed == [(number, signal.SIG_DFL) for number in set_]

    async def test_nameservers_given_are_asked_in_turn(self, nameserver):
        one, two = nameserver(silence), nameserver(a('192.0.2.1'))
        options = m.parse_arguments(['x', f'--nameserver={one.text}', f'--nameserver={two.text}'])
        assert texts(await options.resolve('www.example', TYPES.A)) == ['192.0.2.1']
        assert (one.times, two.times) == ([1000], [1000.5])


class TestSuiteThatExists(unittest.TestCase):
    """The interface as existing suites use it: `unittest`, files and a time that are patched, a nameserver of the module's own parts."""

    def setUp(self):
        self.loop, self.queried = asyncio.new_event_loop(), []
        self.addCleanup(self.loop.close)
        lines = {'/etc/hosts': ['127.0.0.1 localhost', '127.0.0.5 host.domain'], '/etc/resolv.conf': ['nameserver 127.0.0.1']}

        def open_(path, mode, /):  # both are positional
            context = unittest.mock.MagicMock()
            context.__enter__.return_value = lines[path]
            return context

        self.enterContext(unittest.mock.patch('aiodnsresolver.open', side_effect=open_))
        self.resolve, self.clear_cache = Resolver()

    def find(self, name='some.domain', ahead=0):
        """Which addresses are found, and how many queries there were so far, when the time of the loop is ahead of the clock."""
        real_time = self.loop.time
        with unittest.mock.patch.object(self.loop, 'time', lambda: real_time() + ahead):
            return texts(self.loop.run_until_complete(self.resolve(name, TYPES.A))), len(self.queried)

    def serve(self, **records):
        """Serves a record for each first label of a name, at port 53."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        self.addCleanup(sock.close)
        try:
            sock.bind(('127.0.0.1', 53))
        except OSError as error:
            needs_what_is_missing(f'127.0.0.1:53 to bind to: {error}')

        async def answer():
            while True:
                data, address = await m.recvfrom(self.loop, [sock], 512)
                query = parse(data)
                self.queried.append(query)
                name, qtype, ttl, rdata = records[query.qd[0].name.lower().decode().partition('.')[0]]
                record = m.ResourceRecord(name=name, qtype=qtype, qclass=1, ttl=ttl, rdata=rdata)
                zeros = dict.fromkeys(['opcode', 'aa', 'tc', 'rd', 'z', 'rcode'], 0)
                found = m.Message(qid=query.qid, qr=m.RESPONSE, ra=1, qd=query.qd, an=(record,), ns=(), ar=(), **zeros)
                sock.sendto(pack(found), address)

        task = asyncio.ensure_future(answer(), loop=self.loop)
        self.addCleanup(lambda: self.loop.run_until_complete(end(task)))

    def test_names_of_files_and_of_a_nameserver_at_port_53(self):
        self.serve(
            some=(b'some.domain', TYPES.A, 3600, bytes([192, 0, 2, 1])),
            alias=(b'alias.domain', TYPES.CNAME, 100, b'some.domain'),
            wrong=(b'else.domain', TYPES.A, 100, bytes([192, 0, 2, 2])),
        )
        assert self.find('host.domain') == (['127.0.0.5'], 0)
        assert self.find() == self.find(ahead=3599) == (['192.0.2.1'], 1)
        assert self.find(ahead=3600) == (['192.0.2.1'], 2)
        self.clear_cache()
        assert self.find('alias.domain') == (['192.0.2.1'], 4)
        with self.assertRaises(m.DoesNotExist):
            self.find('wrong.domain')


REAL = {  # with the longest TTL
    'A': ('www', TYPES.A, ['192.0.2.1'], 60),
    'AAAA': ('www', TYPES.AAAA, ['2001:db8::1'], 60),
    'alias to A': ('four', TYPES.A, ['192.0.2.1'], 20),
    'alias to AAAA': ('four', TYPES.AAAA, ['2001:db8::1'], 20),
    'NODATA': ('only4', TYPES.AAAA, m.NoRecords, 0),
    'NXDOMAIN': ('nothing', TYPES.A, m.NameDoesNotExist, 0),
    'TXT': ('txt', TYPES.TXT, ["b'some text'"], 300),
    'alias to nothing': ('dangling', TYPES.A, m.NameDoesNotExist, 0),
    'CNAME': ('three', TYPES.CNAME, ["b'two.zone.example'"], 20),
    'umlaut': ('bücher', TYPES.A, ['192.0.2.5'], 300),
    'wildcard': ('anything.wild', TYPES.A, ['192.0.2.6'], 300),
}


class TestRealNameservers:
    """unbound, NSD, BIND, dnsmasq, PowerDNS Recursor and Knot Resolver, started on loopback with a zone of their own."""

    @pytest.mark.parametrize('server', ['unbound', 'nsd', 'bind', 'dnsmasq', 'recursor', 'knot'])
    @in_each_loop
    @cases('name, qtype, expected, ttl', REAL)
    def test_records_are_resolved(self, request, server, loop_factory, name, qtype, expected, ttl):
        async def main(address):
            resolve = resolver_at(address)
            for _ in range(2):
                try:
                    found = await resolve(f'{name}.zone.example', qtype)
                except m.DoesNotExist as error:
                    assert (type(error), f'{name}.zone.example {qtype.name}' in str(error)) == (expected, True)
                else:
                    assert texts(found) == expected
                    assert all(0 < record.expires_at - now() < ttl + 0.001 for record in found)

        run(main(request.getfixturevalue(server)), loop_factory)

    @cases('server, least', {  # the share that fits in 512 octets is used, where a nameserver gives it
        'NSD': ('nsd', 1), 'unbound': ('unbound', 1), 'Recursor': ('recursor', 1), 'Knot': ('knot', 1),
        'BIND': ('bind', 0.6), 'dnsmasq': ('dnsmasq', 0.6),
    })  # fmt: skip
    @cases('name, qtype', {  # none of which fits in 512 octets
        'A': ('forty', TYPES.A), 'AAAA': ('twenty', TYPES.AAAA), 'alias': ('toforty', TYPES.A), 'chain': (f'link0.{FAR}0', TYPES.A),
        'TXT': ('longtext', TYPES.TXT),
    })  # fmt: skip
    def test_large_answer_is_given_as_a_client_with_edns_has_it(self, request, server, least, name, qtype):
        host, port = request.getfixturevalue(server)
        query = dns.message.make_query(f'{name}.zone.example', qtype.name, use_edns=0, payload=1232)
        answer = dns.query.udp(query, host, port=port, timeout=5).answer
        expected = [str(record) for rrset in answer if rrset.rdtype == qtype for record in rrset]
        found = run(resolver_at((host, port))(f'{name}.zone.example', qtype))
        assert len(expected) >= len(found) >= least * len(expected) > 0
        assert qtype == TYPES.TXT or set(texts(found)) <= set(expected)

    @in_each_loop
    def test_thousand_names_resolve_at_once(self, nsd, loop_factory):
        async def main():
            resolve = resolver_at(nsd)
            return await asyncio.gather(*(resolve(f'n{i}.wild.zone.example', TYPES.A) for i in range(1000)))

        assert list(map(texts, run(main(), loop_factory))) == [['192.0.2.6']] * 1000


TYPED = """
import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from typing import Any
import aiodnsresolver as m
from aiodnsresolver import TYPES, IPv4AddressExpiresAt, IPv6AddressExpiresAt, Resolver

async def get_host(fqdn: bytes, qtype: int) -> ipaddress.IPv4Address | None:
    return None
async def get_nameservers(fqdn: bytes) -> AsyncGenerator[tuple[Any, ...], None]:
    yield 1.0, ('192.0.2.53', 53)
async def one_nameserver(fqdn: bytes) -> AsyncGenerator[tuple[float, tuple[str, int]], None]:
    yield 1.0, ('192.0.2.53', 53)
async def two_nameservers(fqdn: bytes) -> AsyncGenerator[tuple[float, tuple[ipaddress.IPv4Address, int], tuple[str, int]], None]:
    yield 1, (ipaddress.IPv4Address('192.0.2.53'), 53), ('192.0.2.54', 53)
async def fake(name: str, qtype: object) -> tuple[Any, ...]:
    return (IPv4AddressExpiresAt('192.0.2.1', 0),)

hook: m.GetHost = get_host
sets: m.GetNameservers = one_nameserver
Resolver(get_nameservers=sets)
Resolver(get_nameservers=two_nameservers, stale_for=60)
resolve, clear_cache = Resolver(get_host=hook, get_nameservers=get_nameservers, max_sockets=10)

async def connect(resolve: m.Resolve, host: str) -> list[tuple[Any, ...]]:
    m.install(resolve)
    m.install(resolve, asyncio.get_running_loop())
    found: tuple[IPv4AddressExpiresAt, ...] = await resolve(host, TYPES.A)
    print((await resolve(host, TYPES.TXT))[0].decode(), found[0].expires_at)
    return await m.getaddrinfo(resolve, host, 80)
async def use(either: bool) -> float:
    await connect(resolve, 'www.example.com')
    await connect(fake, 'www.example.com')
    four: tuple[IPv4AddressExpiresAt, ...] = await resolve('www.example.com', TYPES.A)
    six: tuple[IPv6AddressExpiresAt, ...] = await resolve('www.example.com', TYPES.AAAA)
    both: tuple[IPv4AddressExpiresAt | IPv6AddressExpiresAt, ...] = await resolve('www.example.com', (TYPES.A, TYPES.AAAA))
    txt: tuple[m.BytesExpiresAt, ...] = await resolve('www.example.com', TYPES.TXT)
    plain: tuple[IPv4AddressExpiresAt, ...] = await resolve('www.example.com', 1)
    a, b = await asyncio.gather(resolve('a.example', TYPES.A), resolve('b.example', TYPES.AAAA))
    gathered: tuple[IPv4AddressExpiresAt, IPv6AddressExpiresAt] = a[0], b[0]
    address: ipaddress.IPv4Address = four[0]
    for found in await resolve('www.example.com', TYPES.A if either else TYPES.AAAA):
        print(found.expires_at, found.version)
    clear_cache()
    try:
        m.parse(m.pack(m.Message(1, 0, 0, 0, 0, 1, 0, 0, 0, (m.QuestionRecord(b'a', TYPES.A, 1),), (), (), ())))
    except m.ResponseCodeError as error:
        print(error.rcode + 1)
    except (m.DoesNotExist, m.AnswerTooLong):
        pass
    return six[0].expires_at + txt[0].expires_at + len(plain) + int(address) + both[0].expires_at + gathered[0].expires_at
"""
MISTYPED = """
from collections.abc import AsyncGenerator
from aiodnsresolver import TYPES, GetNameservers, IPv6AddressExpiresAt, Resolve, Resolver
async def get_host(fqdn: bytes, qtype: int) -> str:
    return '192.0.2.1'
async def flat(fqdn: bytes) -> AsyncGenerator[tuple[float, str, int], None]:
    yield 0.5, '127.0.0.1', 53
resolve, clear_cache = Resolver(max_sockets='many')  # wrong
async def use() -> tuple[IPv6AddressExpiresAt, ...]:
    await clear_cache()  # wrong
    await resolve('x', 15)  # wrong
    Resolver(get_host=get_host)  # wrong
    return await resolve('www.example.com', TYPES.A)  # wrong
sets: GetNameservers = flat  # wrong
async def use_any(resolve: Resolve) -> tuple[IPv6AddressExpiresAt, ...]:
    return await resolve('www.example.com', TYPES.A)  # wrong
"""


class TestTypes:
    """The stubs, as mypy and pyright read them."""

    @pytest.mark.slow
    @cases('checker', {'mypy': ['mypy', '--strict'], 'pyright': ['pyright', '--pythonpath', sys.executable]})
    def test_code_that_uses_what_is_installed_is_checked(self, checker, tmp_path):
        if not list(pathlib.Path(sysconfig.get_path('purelib')).glob('*aiodnsresolver*')):  # installed, or with -e
            needs_what_is_missing('aiodnsresolver installed, with its stubs')
        programs = [*blocks_of('docs/integrations.md'), *(block for block in blocks_of('README.md') if 'async def main' in block)]
        codes = {'mistyped.py': MISTYPED, 'typed.py': TYPED, **{f'program{number}.py': block for number, block in enumerate(programs)}}
        for name, code in codes.items():
            (tmp_path / name).write_text(code)
        calls = [[sys.executable, '-m', *checker, *names] for names in ([*codes][1:], ['mistyped.py'])]
        done = [subprocess.run(call, capture_output=True, text=True, cwd=tmp_path) for call in calls]
        assert [each.returncode for each in done] == [0, 1], done[0].stdout
        wrong = [number for number, line in enumerate(MISTYPED.splitlines(), 1) if line.endswith('# wrong')]
        assert sorted({int(line) for line in re.findall(r'mistyped.py:(\d+).* error', done[1].stdout)}) == wrong

    def test_types_of_hooks_can_be_evaluated(self):
        assert typing.get_type_hints(m.Resolve.__call__)['name'] is str
        assert typing.get_args(m.TransformFqdn) == ([bytes], bytes)
        assert typing.get_args(m.GetHost)[0] == [bytes, TYPES]
        assert typing.get_args(m.GetNameservers)[0] == [bytes]


README = (HERE / 'README.md').read_text()
PAGES = ['README.md', *sorted(f'docs/{path.name}' for path in (HERE / 'docs').glob('*.md'))]


def blocks_of(page):
    return re.findall(r'^```python\n(.*?)^```', (HERE / page).read_text(), re.MULTILINE | re.DOTALL)


def block_with(page, text):
    """What the one block of a page that has this text defines; its program is not run."""
    (block,) = [block for block in blocks_of(page) if text in block]
    found = {'__name__': 'block'}
    exec(compile(block, page, 'exec'), found)
    return found


def integration(name):
    return block_with('docs/integrations.md', f'class {name}(')[name]


class TestDocuments:
    """README.md and docs."""

    def test_version_is_the_same_everywhere(self):
        assert f'version = "{m.__version__}"' in (HERE / 'pyproject.toml').read_text()
        assert f'## {m.__version__}\n' in (HERE / 'CHANGELOG.md').read_text()

    @cases('text, says', {
        'no task, but for one case': (README, ['No dependency, no thread, no task', 'Before CPython 3.13, calling `close()` on']),
        'flags without effect': (m.getaddrinfo.__doc__, ['AI_CANONNAME:', 'AI_V4MAPPED, AI_ALL and AI_IDN have no effect on names']),
        'what asks the C library on uvloop': (m.install.__doc__, ['`create_datagram_endpoint`, `create_server` and `local_addr`']),
    })  # fmt: skip
    def test_what_is_promised_and_what_is_not_done_is_said(self, text, says):
        assert [words for words in says if words not in text] == []

    def test_readme_has_the_commands_that_ci_runs(self):
        assert "python -m pip install '.[test]' && python -m pytest" in README
        assert "python -m pip install '.[test]' && python -m pytest" in (HERE / '.ci' / 'run').read_text()

    @pytest.mark.parametrize('page', [page for page in PAGES if page != 'docs/integrations.md'])  # whose programs TestIntegrations runs
    def test_python_blocks_run(self, anything, capsys, page):
        with every_nameserver_is(anything), contextlib.closing(asyncio.new_event_loop()) as loop:
            shared = {'__name__': 'block'}
            try:
                for block in blocks_of(page):
                    if 'async def main' in block:
                        continue  # which TestIntegrations runs
                    code = compile(block, page, 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                    if code.co_flags & inspect.CO_COROUTINE:
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

    def test_readme_fits_on_a_landing_page(self):
        assert len(README.split()) <= 750


async def hello(request):
    await asyncio.sleep(float(request.query.get('wait', 0)))
    return aiohttp.web.Response(text=f'hello {request.host} from {request.transport.get_extra_info("sockname")[0]}')


@contextlib.asynccontextmanager
async def web():
    """A web server on both families, its port, and a scripted nameserver that has names for it."""
    known = {
        'both.example': by(A=a('127.0.0.1'), AAAA=a('::1')),
        'four.example': by(A=a('127.0.0.1'), AAAA=nodata),
        'six.example': by(A=nodata, AAAA=a('::1')),
        'half.example': by(A=servfail, AAAA=a('::1')),
        'broken.example': servfail,
    }
    app, port = aiohttp.web.Application(), 0
    app.router.add_get('/', hello)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    with contextlib.closing(Scripted('127.0.0.1', [zone(known)])) as server:
        for host in ('127.0.0.1', '::1'):
            await aiohttp.web.TCPSite(runner, host, port).start()
            port = runner.addresses[0][1]
        yield server, port
        await runner.cleanup()


@contextlib.asynccontextmanager
async def aiohttp_client(resolve):
    async def get(url):  # in a session of its own, whose end closes its connector
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as got:
            return await got.text()

    resolver = integration('AioHttpResolver')(resolve)
    yield get
    await resolver.close()
    await resolver.close()


@contextlib.asynccontextmanager
async def tornado_client(resolve):
    async def get(url):
        return (await client.fetch(url)).body.decode()

    m.install(resolve)
    with contextlib.closing(tornado.simple_httpclient.SimpleAsyncHTTPClient(force_instance=True, max_clients=500)) as client:
        yield get


@contextlib.asynccontextmanager
async def httpx_client(resolve):
    async def get(url):
        return (await client.get(url)).text

    m.install(resolve)
    async with httpx.AsyncClient(trust_env=False) as client:
        yield get


@contextlib.asynccontextmanager
async def stream_client(resolve):
    async def get(url):
        authority = url.split('/')[2]
        reader, writer = await asyncio.open_connection(*authority.split(':'))
        writer.write(f'GET / HTTP/1.0\r\nHost: {authority}\r\n\r\n'.encode())
        text = (await reader.read()).decode().splitlines()[-1]
        writer.close()
        await writer.wait_closed()
        return text

    m.install(resolve)
    yield get


class TestIntegrations:
    """The programs of README.md and docs/integrations.md, with real clients and servers."""

    @in_each_loop
    @cases('client, error', {
        'aiohttp': (aiohttp_client, aiohttp.ClientConnectorError), 'tornado': (tornado_client, socket.gaierror),
        'httpx': (httpx_client, httpx.ConnectError), 'streams': (stream_client, socket.gaierror),
    })  # fmt: skip
    def test_client_gets_whichever_families_exist_and_our_message(self, loop_factory, client, error):
        async def main():
            async with web() as (server, port), client(resolver_for(server)[0]) as get:
                for name, at in {'both': r'127\.0\.0\.1|::1', 'four': r'127\.0\.0\.1', 'six': '::1', 'half': '::1'}.items():
                    for _ in range(2):
                        assert re.fullmatch(f'hello {name}.example:{port} from ({at})', await get(f'http://{name}.example:{port}/'))
                    assert asked_types(server).count((f'{name}.example', TYPES.AAAA)) == 1
                for name, code, says in (
                    ('nothing.example', socket.EAI_NONAME, 'nothing.example AAAA, A: does not exist: '),
                    ('broken.example', socket.EAI_AGAIN, 'broken.example AAAA, A: .* answered SERVFAIL'),
                    ('a' * 64 + '.example', socket.EAI_NONAME, '64 octets'),
                ):
                    with pytest.raises(error, match=says) as caught:
                        await get(f'http://{name}:{port}/')
                    assert getattr(getattr(caught.value, 'os_error', caught.value), 'errno', code) == code

        run(main(), loop_factory)

    @in_each_loop
    @cases('client', {'aiohttp': aiohttp_client, 'tornado': tornado_client})
    def test_client_makes_five_hundred_requests_some_of_them_cancelled(self, loop_factory, client):
        async def main():
            async with web() as (server, port), client(resolver_for(server)[0]) as get:
                tasks = start(*(get(f'http://both.example:{port}/?wait=0.2') for _ in range(500)))
                await asyncio.sleep(0.001)
                for task in tasks[::10]:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert sum(isinstance(result, str) for result in results) == 450
                assert len(server.queries) <= 4

        run(main(), loop_factory)

    @in_each_loop
    def test_redis_and_postgresql_are_connected_by_name(self, loop_factory, anything, redis_server, postgresql, capsys):
        main = block_with('docs/integrations.md', 'asyncpg')['main']
        url = f'postgresql://postgres@db.example:{postgresql}/postgres'
        with every_nameserver_is(anything):
            run(main('cache.example', redis_server, url), loop_factory)
        assert capsys.readouterr().out == "redis: b'hello'\nPostgreSQL: hello\n"

    @cases('page, text, prints', {
        'aiohttp': ('README.md', 'aiohttp.ThreadedResolver()', '200'),
        'aiohttp on any loop': ('docs/integrations.md', 'class AioHttpResolver(', '200'),
        'httpx': ('docs/integrations.md', 'httpx.AsyncClient()', '200'),
        'uvloop': ('docs/integrations.md', 'uvloop.run(', "('127.0.0.1', {port})"),
    })  # fmt: skip
    def test_program_runs_as_published_but_for_its_port(self, anything, tmp_path, capsys, page, text, prints):
        (source,) = [block for block in blocks_of(page) if text in block]
        port = free_port()
        source = source.replace('example.com/', f'example.com:{port}/').replace("com', 80", f"com', {port}")
        command = [sys.executable, '-m', 'http.server', '--bind', '127.0.0.1', '--directory', str(tmp_path), str(port)]
        with serving(command, port), every_nameserver_is(anything):
            exec(compile(source, page, 'exec'), {'__name__': '__main__'})
        assert capsys.readouterr().out == prints.format(port=port) + '\n'

    async def test_lifespan_of_an_application_installs_it(self):
        block = block_with('docs/integrations.md', 'lifespan')
        async with block['lifespan'](block['app']):
            assert asyncio.get_running_loop().getaddrinfo.args == (block['resolve'],)

    @pytest.mark.real_time
    async def test_fastapi_takes_resolve_by_its_annotation(self, anything):
        found = block_with('docs/integrations.md', 'Annotated[')
        app, fake = found['app'], unittest.mock.AsyncMock(return_value=(m.IPv4AddressExpiresAt('192.0.2.1', 0),))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url='http://test') as client:
            with every_nameserver_is(anything):
                assert (await client.get('/addresses/www.example.com')).json() == ['127.0.0.1']
            app.dependency_overrides[found['get_resolve']] = lambda: fake
            assert (await client.get('/addresses/www.example.com')).json() == ['192.0.2.1']


# --- The fuzzer: python test.py fuzz SECONDS --------------------------------------------------------------------------


def fuzz(seconds):
    """Octets guided by coverage parse or are malformed. What was parsed is packed and parsed again. As a reply they are read or refused."""
    import atheris

    query = QUERY.to_wire()

    def one(data):
        with contextlib.suppress(m.MalformedMessage):
            message = m.parse(data)
            assert m.parse(m.pack(message)) == message
        with contextlib.suppress(m.ResolverError):
            m.read_reply(*WWW, query, query[:2] + b'\x81' + data[:1] + b'\0\1' + data[1:7] + query[12:] + data[7:], 0.0)

    for name, function in vars(m).items():
        if inspect.isfunction(function) and function.__module__ == m.__name__:
            setattr(m, name, atheris.instrument_func(function))
    atheris.Setup([sys.argv[0], f'-max_total_time={seconds}', '-max_len=2000', '-timeout=5'], one)
    atheris.Fuzz()


# --- A long run: python test.py soak SECONDS -----------------------------------------------------------------------------------------
#
# callers ──▶ three nameservers of which one is dead, and the others lose or delay 30 % of the queries
#
# They answer as ones that cache do. An address tells its name and the second in which it was given, so that a wrong one and an old one
# are recognized. The TTL of a name is its number modulo 31. The first hundred names are in the hosts file alone. That and resolv.conf
# change once a round.

SOAK_NAMES, SOAK_CALLERS = 5000, 200
SOAK_START = time.monotonic() - 31  # of this process and of what it forks, in the clock of its loops
SOAK_LATE = 4  # seconds: the addresses count in whole ones, and the machine may be busy


def soak_address(number, qtype, age=0):
    bits = number << 19 | int(time.monotonic() - SOAK_START) - age
    return ipaddress.IPv4Address(bits) if qtype == TYPES.A else ipaddress.IPv6Address('2001:db8::') + bits


def serve_soak(socks):
    """Runs the nameservers, for ever."""
    loop, chance = asyncio.new_event_loop(), random.Random(20261125)

    def answer(sock):
        wire, client = sock.recvfrom(65535)
        query, fate = dns.message.from_wire(wire), chance.random()
        number, qtype = int(re.fullmatch(r'n(\d+)\.soak\.example', name_of(query))[1]), query.question[0].rdtype
        age = chance.randint(0, number % 31)
        record = f'? {number % 31 - age} IN {TYPES(qtype).name} {soak_address(number, qtype, age)}'
        if fate >= 0.15:
            loop.call_later(chance.uniform(0, 1.5) if fate < 0.3 else 0, sock.sendto, response(query, [record]).to_wire(), client)

    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        loop.add_reader(sock, answer, sock)
    loop.run_forever()


class SoakFiles:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.written = []  # when

    def write(self):
        """Gives the names in the hosts file new addresses, and puts two of three nameservers into resolv.conf."""
        hosts = [f'{soak_address(i, qtype)} n{i}.soak.example\n' for i in range(100) for qtype in BOTH]
        nameservers = [f'nameserver 127.0.0.{2 + (len(self.written) + i) % 3}\n' for i in range(2)]
        for name, lines in ('hosts', hosts), ('resolv.conf', [*nameservers, 'options timeout:1 attempts:5\n']):
            (self.directory / 'new').write_text(''.join(lines))
            (self.directory / 'new').replace(self.directory / name)
        self.written.append(time.monotonic())

    def check(self, given_at):
        """A file may be read again a second after it has changed."""
        age = time.monotonic() - self.written[-1]
        before = self.written[-2 if age < SOAK_LATE and len(self.written) > 1 else -1]
        assert given_at >= before - SOAK_LATE, f'an address of the hosts file is {time.monotonic() - given_at:.1f} s old'


async def soak_call(resolve, files, chance, counts):
    number = int(SOAK_NAMES * chance.random() ** 2)  # some are asked for more often than others
    began, yields = now(), []
    counts['look-ups'] += 1
    asyncio.get_running_loop().call_soon(yields.append, True)
    try:
        async with asyncio.timeout(chance.uniform(0, 0.1) if chance.random() < 0.1 else None):
            addresses = await resolve(f'n{number}.soak.example', BOTH)
    except (TimeoutError, m.TemporaryResolverError) as error:
        counts['failed' if isinstance(error, m.ResolverError) else 'cancelled'] += 1
        return
    for address in addresses:
        found, second = divmod(int(address) % (1 << 32), 1 << 19)
        assert found == number, f'n{number}.soak.example is not {address}, which is of n{found}'
        given_at = SOAK_START + second
        if number < 100:
            files.check(given_at)
        else:
            assert address.expires_at <= given_at + number % 31 + SOAK_LATE, f'{address} is kept for too long'
            assert yields or address.expires_at > began, f'{address} was kept for too long'


async def soak_round(resolve, files, seed, period):
    """Returns how many look-ups there were, how many were cancelled, and how many failed."""
    end, chance, counts = now() + period - 2, random.Random(seed), collections.Counter()

    async def call_again_and_again():
        while now() < end:
            await asyncio.sleep(chance.uniform(0, 0.4))
            await soak_call(resolve, files, chance, counts)

    async with asyncio.TaskGroup() as group:
        for _ in range(SOAK_CALLERS):
            group.create_task(call_again_and_again())
        await asyncio.sleep(period / 2)
        files.write()
    await asyncio.sleep(2)  # longer than the timeout, after which nothing is left
    assert counts['failed'] < counts['look-ups'] / 2  # on a busy machine, a reply may take longer than all tries
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return counts


def soak(seconds):
    """Prints a line for each round. Fails at a wrong address, and if memory, descriptors or threads grow."""
    period, measured = min(60, seconds // 4), []
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for host, sock in zip(('127.0.0.2', '127.0.0.3'), socks, strict=True):
        sock.bind((host, socks[0].getsockname()[1]))
    port = socks[0].getsockname()[1]
    process = multiprocessing.get_context('fork').Process(target=serve_soak, args=[socks], daemon=True)
    process.start()
    with (
        tempfile.TemporaryDirectory() as name,
        unittest.mock.patch.multiple(m, HOSTS=f'{name}/hosts', RESOLV_CONF=f'{name}/resolv.conf'),
        redirected(lambda ip, _: (ip, port)),
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.terminate)
        files = SoakFiles(name)
        files.write()
        resolve, _ = Resolver()
        runners = {name: stack.enter_context(asyncio.Runner(loop_factory=loop)) for name, loop in LOOPS.items()}
        for number, (loop, runner) in enumerate(itertools.islice(itertools.cycle(runners.items()), seconds // period), 1):
            counts = runner.run(soak_round(resolve, files, number, period))
            gc.collect()
            memory = int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGESIZE') / 1e6
            descriptors, threads = descriptors_now(), threading.active_count()
            measured.append((memory, descriptors, threads))
            text = ', '.join(f'{counts[what]} {what}' for what in ('look-ups', 'cancelled', 'failed'))
            print(f'{number * period} s, {loop}: {text}, {memory:.1f} MB, {descriptors} descriptors, {threads} thread', flush=True)
            if number >= len(runners):
                before = measured[len(runners) - 1]  # when each loop was used once
                assert memory < before[0] + 10
                assert (descriptors, threads) == before[1:]


class TestLongRun:
    @pytest.mark.slow
    @pytest.mark.timeout(240)
    def test_minute_over_a_lossy_network_gives_no_wrong_address_and_leaves_nothing(self):
        done = subprocess.run([sys.executable, __file__, 'soak', '60'], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count(' 1 thread\n') == 4


if __name__ == '__main__':
    name, *numbers = sys.argv[1:]
    if name == 'model':
        m.logger.setLevel(logging.ERROR)
        compare(range(*map(int, numbers)))
    else:
        {'calls': print_calls, 'searches': print_searches, 'soak': soak, 'fuzz': fuzz}[name](*map(int, numbers))
