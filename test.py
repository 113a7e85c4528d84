"""The tests, in the order of the module. What they share stands first: a clock that jumps, a scripted nameserver, and real ones."""

import asyncio
import contextlib
import copy
import errno
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
import selectors
import shutil
import socket
import subprocess
import sys
import time
import unittest
import unittest.mock

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rrset
import hypothesis
import hypothesis.strategies as st
import pytest
import pytest_asyncio

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
        select = loop._selector.select

        def select_or_jump(timeout=None):
            events = select(0)
            if not events and timeout is None:
                return select(5)  # nothing will ever happen, unless a signal comes: the test hangs, and is to be seen to
            if not events:
                self.now += max(0, timeout)
            return events

        loop.time = lambda: self.now
        loop._selector.select = select_or_jump


@pytest_asyncio.fixture
async def clock():
    return Clock(asyncio.get_running_loop())


@pytest_asyncio.fixture(autouse=True)
async def nothing_left(request):
    """Every test ends with the same checks: no task, reader, timer or socket is left behind, and no exception that nobody saw."""
    if not inspect.iscoroutinefunction(request.function):
        yield
        return
    loop = asyncio.get_running_loop()
    unseen = []
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    readers, tasks, descriptors = readers_of(loop), asyncio.all_tasks(), descriptors_now()
    yield
    servers = request.getfixturevalue('nameserver').servers if 'nameserver' in request.fixturenames else []
    for server in servers:
        server.close()
    if 'clock' in request.fixturenames:
        await asyncio.sleep(100)  # longer than any timeout in here
    gc.collect()
    assert asyncio.all_tasks() - tasks <= {asyncio.current_task()}
    if 'clock' in request.fixturenames:
        assert readers_of(loop) == readers
        assert not [handle for handle in loop._scheduled if not handle.cancelled()]
        assert descriptors_now() == descriptors
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
        wire, address = self.sock.recvfrom(65535)
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
def nameserver(clock):
    """`nameserver(reply, …)` starts a scripted nameserver on loopback."""
    servers = []

    def start(*replies, address='127.0.0.1'):
        servers.append(Scripted(address, replies))
        return servers[-1]

    start.servers = servers
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


def edited(edit, of=a('192.0.2.66')):
    """A reply whose octets were changed."""
    return lambda query: edit(bytearray(of(query)))


def set_octet(index, change):
    def edit(data):
        data[index] = change(data[index])
        return bytes(data)

    return edit


def question_in(change):
    """A reply to the question with other letters."""

    def make(query):
        other = copy.copy(query)
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
