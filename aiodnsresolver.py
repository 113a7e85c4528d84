"""A stub resolver for asyncio: names to IP addresses over UDP, with no dependency, no thread and no task.

    resolve, clear_cache = Resolver()
    addresses = await resolve('www.example.com', TYPES.A)

The way of one name through this file, which is in the order of its parts, each using only what stands above it:

    resolve(name, qtype)
      (name, qtype) ── Shortcut ──▶ addresses? done        the end of all this, a moment ago
      name ── candidates ──▶ fqdns                         names, search list
      fqdn ── get_host ──▶ addresses? done                 hosts file
      (fqdn, qtype) ── Cache ──▶ kept | joined | led       one query in flight a question
        for (timeout, *nameservers) in get_nameservers     resolv.conf
          Inquiry ──▶ datagrams ── read_reply ──▶ Answer | None | raises
      Answer ──▶ addresses with expires_at | alias: ask again | DoesNotExist

Everything up to the section "Exchange" is pure, or reads a file: bytes and values, and the time passed in. From there on it touches the
event loop, and what has been opened is closed in the `finally` of the one who opened it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import copy
import dataclasses
import enum
import errno
import functools
import heapq
import io
import ipaddress
import itertools
import json
import logging
import math
import os
import re
import select
import selectors
import signal
import socket
import stat
import struct
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

__all__ = [
    'QUESTION',
    'RESPONSE',
    'TYPES',
    'AliasChainTooLong',
    'BadAddress',
    'BytesExpiresAt',
    'DoesNotExist',
    'GetHost',
    'GetNameservers',
    'IPv4AddressExpiresAt',
    'IPv6AddressExpiresAt',
    'InvalidName',
    'MalformedMessage',
    'Message',
    'NameDoesNotExist',
    'NameserverRefused',
    'NameserverUnreachable',
    'NoRecords',
    'PointerLoop',
    'QuestionRecord',
    'Resolver',
    'ResolverError',
    'ResolverTimeout',
    'ResourceRecord',
    'ResponseCodeError',
    'TemporaryResolverError',
    'TransformFqdn',
    'mix_case',
    'pack',
    'parse',
    'recvfrom',
]

__version__ = '0.1.0'

logger = logging.getLogger('aiodnsresolver')

T = TypeVar('T')


# --- Vocabulary --------------------------------------------------------------------------------------------------------


class TYPES(enum.IntEnum):
    """The record types that can be asked for (RFC 1035 §3.2.2, RFC 3596 §2.1)."""

    A = 1
    CNAME = 5
    TXT = 16
    AAAA = 28


A, CNAME, SOA, TXT, AAAA = 1, 5, 6, 16, 28  # the types as plain numbers, since to look up a member of an enum takes its time
QUESTION, RESPONSE = 0, 1  # the QR bit
RCODES = 'NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'  # RFC 1035 §4.1.1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(len(RCODES))
IN = 1  # the class of the Internet

MAX_LABEL = 63  # octets, RFC 1035 §2.3.4
MAX_NAME = 255  # octets on the wire: two more than in dotted form
MAX_DATAGRAM = 65535
MAX_LETTERS = 4 * MAX_NAME  # of a name before it is put into ASCII, which takes time by the square of them
MAX_ALIASES = 16
MAX_TTL = 7 * 24 * 60 * 60  # seconds, RFC 8767 §4
MAX_NEGATIVE_TTL = 60  # seconds, far below RFC 2308 §5: what starts to exist is to be seen soon
FULL_OUTBOX = 32  # queries that are sent together; with more, nothing is gained
FAILING_FOR = 30  # seconds for which a nameserver that failed is asked last
LOOK_AGAIN_AFTER = 1  # seconds between two looks at whether a file has changed

AA, TC, RA = 0x0400, 0x0200, 0x0080  # flags in the second 16 bits of a header

HEADER = struct.Struct('!HHHHHH')  # ID, flags, and how many records are in each of four sections
HEADER_SIZE = HEADER.size
QUERY_HEADER = HEADER.pack(0, 0x0100, 1, 0, 0, 0)[2:]  # after the ID: RD, and one question
TO_QUESTION = bytes((0b11000000, HEADER_SIZE))  # a pointer to the name in the question
ONE_QUESTION = QUERY_HEADER[2:4]
QUESTION_TAIL = struct.Struct('!HH')  # type and class
RECORD_TAIL = struct.Struct('!HHIH')  # type, class, TTL, length of the data


class QuestionRecord(NamedTuple):
    """An entry of a question section (RFC 1035 §4.1.2); `name` is dotted, without the final dot."""

    name: bytes
    qtype: int
    qclass: int


class ResourceRecord(NamedTuple):
    """A record (RFC 1035 §4.1.3). `ttl` is in seconds; the `rdata` of a CNAME is a dotted name, that of any other type its octets."""

    name: bytes
    qtype: int
    qclass: int
    ttl: int
    rdata: bytes


class Message(NamedTuple):
    """A DNS message (RFC 1035 §4.1); `qr` is QUESTION or RESPONSE."""

    qid: int
    qr: int
    opcode: int
    aa: int
    tc: int
    rd: int
    ra: int
    z: int
    rcode: int
    qd: Sequence[QuestionRecord]
    an: Sequence[ResourceRecord]
    ns: Sequence[ResourceRecord]
    ar: Sequence[ResourceRecord]


# --- Errors ------------------------------------------------------------------------------------------------------------


class ResolverError(Exception):
    """What every error of this module is."""


class InvalidName(ResolverError, ValueError):
    """No such name can be in the DNS; nothing was sent."""


class DoesNotExist(ResolverError):
    """The answer is that there is none."""


class NameDoesNotExist(DoesNotExist):
    """There is no such name: NXDOMAIN."""


class NoRecords(DoesNotExist):
    """There is such a name, but it has no record of this type: NODATA (RFC 2308 §2.2)."""


class TemporaryResolverError(ResolverError):
    """No nameserver gave an answer; later one may."""


class ResolverTimeout(TemporaryResolverError, asyncio.TimeoutError):
    """No nameserver gave an answer, and the last thing that happened was a timeout."""


class NameserverRefused(TemporaryResolverError, ConnectionRefusedError):
    """No nameserver gave an answer, and at the last one asked nothing listens."""


class NameserverUnreachable(TemporaryResolverError, OSError):
    """No nameserver gave an answer, and the last thing that happened was an error of a socket."""


class ResponseCodeError(TemporaryResolverError):
    """No nameserver gave an answer, and the last thing that happened was a response code, which is in `rcode`."""

    def __init__(self, message: str, rcode: int = SERVFAIL) -> None:
        super().__init__(message)
        self.rcode = rcode


class BadAddress(ResolverError, ipaddress.AddressValueError):
    """The reply holds an address of a length that no address has."""


class AliasChainTooLong(ResolverError):
    """The aliases (CNAME records) of a name lead back to one of them, or over too many links."""


class MalformedMessage(ResolverError, ValueError):
    """These bytes are no DNS message."""


class PointerLoop(MalformedMessage):
    """A compressed name points at itself or to what comes after it, where RFC 1035 §4.1.4 has only prior occurrences."""


# --- Values that expire ------------------------------------------------------------------------------------------------


class AddressExpiresAt:
    """What addresses that expire have beside those of `ipaddress`."""

    __slots__ = ()
    expires_at: float

    def __init__(self, address: object, expires_at: float) -> None:
        super().__init__(address)  # type: ignore[call-arg]
        self.expires_at = expires_at  # type: ignore[misc]

    def __add__(self, other: int) -> Any:
        return type(self)(int(self) + other, self.expires_at)  # type: ignore[call-overload]

    def __sub__(self, other: int) -> Any:
        return self + -other

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.expires_at)


class IPv4AddressExpiresAt(AddressExpiresAt, ipaddress.IPv4Address):
    """An `ipaddress.IPv4Address` with `expires_at`: seconds of the clock `loop.time()`."""

    __slots__ = ('expires_at',)


class IPv6AddressExpiresAt(AddressExpiresAt, ipaddress.IPv6Address):
    """An `ipaddress.IPv6Address` with `expires_at`: seconds of the clock `loop.time()`."""

    __slots__ = ('expires_at',)


class BytesExpiresAt(bytes):
    """`bytes` with `expires_at`: seconds of the clock `loop.time()`."""

    expires_at: float

    def __new__(cls, value: bytes, expires_at: float) -> BytesExpiresAt:
        self = super().__new__(cls, value)
        self.expires_at = expires_at
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (bytes(self), self.expires_at)


Address = IPv4AddressExpiresAt | IPv6AddressExpiresAt
Value = Address | BytesExpiresAt

TYPE_EQUAL_TO: dict[int, TYPES] = {qtype: qtype for qtype in TYPES}
ADDRESSES: dict[int, tuple[int, type[Address]]] = {  # type -> octets in an address, class
    A: (4, IPv4AddressExpiresAt),
    AAAA: (16, IPv6AddressExpiresAt),
}
PLAIN_RECORDS = {  # type -> the layout of an address record named by a pointer to the question, its start, octets of the address, class
    qtype: (struct.Struct(f'!6sIH{octets}s'), TO_QUESTION + QUESTION_TAIL.pack(qtype, IN), octets, address_class)
    for qtype, (octets, address_class) in ADDRESSES.items()
}


def expiring(value: Any, expires_at: float) -> Value:
    """A value that a hook gave or a file holds, as one that expires; one that does already stays as it is."""
    if hasattr(value, 'expires_at'):
        return value  # type: ignore[no-any-return]
    if isinstance(value, ipaddress.IPv4Address):
        return IPv4AddressExpiresAt(int(value), expires_at)
    if isinstance(value, ipaddress.IPv6Address):
        return IPv6AddressExpiresAt(str(value), expires_at)
    if isinstance(value, bytes):
        return BytesExpiresAt(value, expires_at)
    raise TypeError(f'{value!r} is no ipaddress object')


# --- Names -------------------------------------------------------------------------------------------------------------

DOT, COLON = b'.:'  # as numbers: `b':' in fqdn` first raises an error inside CPython, since b':' is no number
DOTS = re.compile('[.\u3002\uff0e\uff61]')  # what the idna codec takes for a dot (RFC 3490 §3.1)
UNPRINTABLE = re.compile(rb'[^!-~]')
TO_ESCAPE = re.compile(rb'[^!-\[\]-~]')  # the same, and the backslash
PLAIN_NAME = re.compile(r'[!-\-/-~]{1,63}(?:\.[!-\-/-~]{1,63})*', re.ASCII)  # printable but for the dots, which part its labels
LENGTH_OCTETS = {length: bytes((length,)) for length in range(1, MAX_LABEL + 1)}
NEVER_ASKED = frozenset([b'localhost', b'onion', b'invalid'])  # top-level domains, RFC 6761 and RFC 7686
LOOPBACK: dict[int, str] = {A: '127.0.0.1', AAAA: '::1'}


def text(name: bytes) -> str:
    """A name as zone files have it (RFC 1035 §5.1), so that no octet of a reply does harm in a message, a log or a terminal."""
    return TO_ESCAPE.sub(lambda octet: b'\\%03d' % ord(octet[0]), name).decode('ascii') or '.'


def to_fqdn(name: str) -> bytes:
    """A name as it goes into queries, but for its case: dotted octets in lower case without the final dot (RFC 1035 §2.3, RFC 3490 §4).

    Raises InvalidName.
    """
    if PLAIN_NAME.fullmatch(name) and len(name) <= MAX_NAME - 2:
        return name.lower().encode()
    if len(name) > MAX_LETTERS:
        raise InvalidName(f'{name[:MAX_LABEL]!r}… is no name: it has {len(name)} letters')
    labels = DOTS.split(name)
    if len(labels) > 1 and not labels[-1]:
        labels.pop()
    fqdn = b'.'.join(to_label(label, name) for label in labels)
    if len(fqdn) > MAX_NAME - 2:
        raise InvalidName(f'{name!r} is no name: it has {len(fqdn)} octets, and {MAX_NAME - 2} is the most')
    return fqdn


def to_label(label: str, name: str) -> bytes:
    if len(label) > MAX_NAME:
        raise InvalidName(f'{name!r} is no name: one of its labels has {len(label)} letters, and {MAX_LABEL} octets are the most')
    try:
        octets = label.encode('ascii' if label.isascii() else 'idna').lower()
    except UnicodeError as error:
        raise InvalidName(f'{name!r} is no name: its label {label!r} cannot be written in ASCII: {error}') from error
    if not octets:
        raise InvalidName(f'{name!r} is no name: it has an empty label' if name else 'the name is empty')
    if len(octets) > MAX_LABEL:
        raise InvalidName(f'{name!r} is no name: its label {label!r} has {len(octets)} octets, and {MAX_LABEL} is the most')
    if DOT in octets or UNPRINTABLE.search(octets):
        raise InvalidName(f'{name!r} is no name: its label {label!r} holds a space or another character that no name has')
    return octets


def top_level(fqdn: bytes) -> bytes:
    return fqdn.rpartition(b'.')[2]


def to_literal(name: str, expires_at: float) -> Address | None:
    """The address that this is the text of, if it is one."""
    if ':' not in name and not name[-1:].isdigit():
        return None
    try:
        return expiring(ipaddress.ip_address(name), expires_at)  # type: ignore[return-value]
    except ValueError:
        return None


def literal_of(name: str) -> Address | None:
    """The address that a name is, which never expires; with a final dot or without, and in whatever digits."""
    return to_literal(name.removesuffix('.') if name.isascii() else text(to_fqdn(name)), math.inf)


def candidates(name: str, search: tuple[bytes, ...], ndots: int) -> tuple[bytes, ...]:
    """The names to ask for, in order, as resolv.conf(5) has it: none for an IP literal, which is its own answer.

    Raises InvalidName.
    """
    fqdn = to_fqdn(name)
    if (fqdn[-1:].isdigit() or COLON in fqdn) and literal_of(name):
        return ()
    if not search or DOTS.match(name[-1]) or top_level(fqdn) in NEVER_ASKED:
        return (fqdn,)
    searched = [longer for domain in search if len(longer := fqdn + b'.' + domain) <= MAX_NAME - 2]
    return (fqdn, *searched) if fqdn.count(b'.') >= ndots else (*searched, fqdn)


def pack_name(name: bytes) -> bytes:
    """A dotted name as it stands in a message, without compression (RFC 1035 §3.1). Raises InvalidName."""
    if len(name) > MAX_NAME - 2:
        raise InvalidName(f'{text(name)!r} is no name: it has {len(name)} octets, and {MAX_NAME - 2} is the most')
    try:
        return b''.join([LENGTH_OCTETS[len(label)] + label for label in name.split(b'.')] if name else []) + b'\0'
    except KeyError as error:
        raise InvalidName(f'{text(name)!r} is no name: one of its labels has {error} octets, not 1 to {MAX_LABEL}') from None


def unpack_name(data: bytes, start: int, by_pointer: dict[bytes, bytes]) -> tuple[bytes, int]:
    """The name at an offset, and the offset of what comes after it (RFC 1035 §4.1.4).

    Each pointer must point to before the name, or the part of it, that it ends: so every step goes back, and there is an end.
    `by_pointer` has, and is given, the name that each pointer of this message stands for: so none is followed twice.
    """
    name = by_pointer.get(data[start : start + 2])
    if name is not None:
        return name, start + 2
    parts: list[bytes] = []
    followed: list[tuple[bytes, int]] = []  # pointers, and how many labels stand before each: the rest is what it stands for
    offset, after, octets = start, 0, 1
    while length := octet_at(data, offset):
        if length <= MAX_LABEL:
            label = data[offset + 1 : offset + 1 + length]
            octets += 1 + length
            if octets > MAX_NAME or len(label) < length or DOT in label:
                raise MalformedMessage(
                    f'the label at octet {offset} is cut off, holds a dot or makes its name longer than {MAX_NAME} octets'
                )
            parts.append(label)
            offset += 1 + length
            continue
        pointer, target = unpack_pointer(data, offset)
        if target >= start:
            raise PointerLoop(f'the pointer at octet {offset} does not point to before its name: to octet {target}')
        after = after or offset + 2
        if pointer in by_pointer:
            parts += [by_pointer[pointer]] if by_pointer[pointer] else []
            break
        followed.append((pointer, len(parts)))
        offset = start = target
    name = b'.'.join(parts)
    if len(name) > MAX_NAME - 2:
        raise MalformedMessage(f'the name that ends with the pointer at octet {offset} is longer than {MAX_NAME} octets')
    for pointer, count in followed:
        by_pointer[pointer] = b'.'.join(parts[count:])
    return name, after or offset + 1


def octet_at(data: bytes, offset: int) -> int:
    if offset >= len(data):
        raise MalformedMessage(f'a name goes on at octet {offset}, after the last octet')
    return data[offset]


def unpack_pointer(data: bytes, offset: int) -> tuple[bytes, int]:
    pointer = data[offset : offset + 2]
    if pointer[0] < 0b11000000:
        raise MalformedMessage(f'the label at octet {offset} is of a reserved type')
    if len(pointer) < 2:
        raise MalformedMessage(f'the pointer at octet {offset} is cut off')
    return pointer, (pointer[0] & 0b00111111) << 8 | pointer[1]


# --- Messages ----------------------------------------------------------------------------------------------------------


def pack(message: Message) -> bytes:
    """A message in wire format, its names uncompressed (RFC 1035 §4.1).

    Raises InvalidName for a name that cannot be in one, ValueError for a number that is too large for its field.
    """
    try:
        return b''.join([
            pack_header(message),
            *(pack_name(name) + QUESTION_TAIL.pack(qtype, qclass) for name, qtype, qclass in message.qd),
            *(pack_record(record) for section in (message.an, message.ns, message.ar) for record in section),
        ])  # fmt: skip
    except struct.error as error:
        raise ValueError(f'a number of {message} does not fit in its field: {error}') from error


def pack_header(message: Message) -> bytes:
    flags = 0
    for value, bits in zip(message[1:9], (1, 4, 1, 1, 1, 1, 3, 4), strict=True):
        if value >> bits:
            raise ValueError(f'{value} does not fit in {bits} bits of the header of {message}')
        flags = flags << bits | value
    return HEADER.pack(message.qid, flags, *(len(section) for section in message[9:]))


def pack_record(record: ResourceRecord) -> bytes:
    name, qtype, qclass, ttl, rdata = record
    octets = pack_name(rdata) if qtype == CNAME else rdata
    return pack_name(name) + RECORD_TAIL.pack(qtype, qclass, ttl, len(octets)) + octets


def parse(data: bytes) -> Message:
    """A message from wire format (RFC 1035 §4.1). Octets after the last record are ignored.

    Raises MalformedMessage, and nothing else, whatever the bytes are.
    """
    if len(data) < HEADER_SIZE:
        raise MalformedMessage(f'{len(data)} octets are no message: its header alone has {HEADER_SIZE}')
    qid, flags, *counts = HEADER.unpack_from(data)
    by_pointer: dict[bytes, bytes] = {}
    questions, offset = unpack_all(unpack_question, data, HEADER_SIZE, counts[0], by_pointer)
    answers, offset = unpack_all(unpack_record, data, offset, counts[1], by_pointer)
    authority, offset = unpack_all(unpack_record, data, offset, counts[2], by_pointer)
    additional, offset = unpack_all(unpack_record, data, offset, counts[3], by_pointer)
    fields = [flags >> shift & mask for shift, mask in ((15, 1), (11, 15), (10, 1), (9, 1), (8, 1), (7, 1), (4, 7), (0, 15))]
    return Message(qid, *fields, questions, answers, authority, additional)  # type: ignore[call-arg]


def unpack_all(
    unpack_one: Callable[[bytes, int, dict[bytes, bytes]], tuple[T, int]],
    data: bytes,
    offset: int,
    count: int,
    by_pointer: dict[bytes, bytes],
) -> tuple[tuple[T, ...], int]:
    """A section of as many entries as the header counts, and the offset of what comes after it."""
    entries = []
    for _ in range(count):
        entry, offset = unpack_one(data, offset, by_pointer)
        entries.append(entry)
    return tuple(entries), offset


def unpack_question(data: bytes, offset: int, by_pointer: dict[bytes, bytes]) -> tuple[QuestionRecord, int]:
    name, offset = unpack_name(data, offset, by_pointer)
    end = offset + QUESTION_TAIL.size
    if end > len(data):
        raise MalformedMessage(f'the question that ends at octet {end} is cut off after {len(data)}')
    return QuestionRecord(name, *QUESTION_TAIL.unpack_from(data, offset)), end


def unpack_record(data: bytes, offset: int, by_pointer: dict[bytes, bytes]) -> tuple[ResourceRecord, int]:
    name, offset = unpack_name(data, offset, by_pointer)
    start = offset + RECORD_TAIL.size
    if start > len(data):
        raise MalformedMessage(f'the record whose data begin at octet {start} is cut off after {len(data)}')
    qtype, qclass, ttl, length = RECORD_TAIL.unpack_from(data, offset)
    end = start + length
    if end > len(data):
        raise MalformedMessage(f'the record whose data end at octet {end} is cut off after {len(data)}')
    rdata = data[start:end]
    if qtype == CNAME:
        rdata, name_end = unpack_name(data, start, by_pointer)
        if name_end != end:
            raise MalformedMessage(f'the name at octet {start} ends at octet {name_end}, the data it stands in at {end}')
    return ResourceRecord(name, qtype, qclass, ttl, rdata), end


# --- Questions and answers ---------------------------------------------------------------------------------------------


class Question:
    """What is asked: a name in lower case, and a type.

    `wire` is how it stands in a query, but for the case of its letters (RFC 1035 §4.1.2), and what the cache knows it by.
    """

    __slots__ = ('fqdn', 'qtype', 'wire')

    def __init__(self, fqdn: bytes, qtype: int) -> None:
        self.fqdn = fqdn
        self.qtype = qtype
        self.wire = pack_name(fqdn) + QUESTION_TAIL.pack(qtype, IN)

    def __str__(self) -> str:
        return f'{text(self.fqdn)} {TYPES(self.qtype).name}'


@dataclasses.dataclass(slots=True)
class Answer:
    """What a nameserver knows of a question: its records, or the alias to ask for instead, or that there are none.

    `expires_at` is when the first of all records that it is made from expires: the time, on the clock of the loop, at which the
    first query for them was about to be sent, and their TTL.
    """

    records: tuple[Value, ...]
    expires_at: float
    aliases: tuple[bytes, ...] = ()  # from one to the next, the last being the canonical name
    missing: type[DoesNotExist] | None = None
    evidence: str = ''  # of whom the answer is that there are none, and how he put it

    @property
    def is_alias(self) -> bool:
        """Whether the last of the aliases is to be asked for."""
        return not self.records and self.missing is None


SetCase = Callable[[Question, bytes], bytes]  # gives a question in wire format its letter case, by as many octets of noise


def make_query(question: Question, set_case: SetCase) -> bytes:
    """A query with an ID that cannot be guessed, and letters in the case that `set_case` gives them."""
    noise = os.urandom(2 + len(question.wire))
    return noise[:2] + QUERY_HEADER + set_case(question, noise[2:])


def is_reply(query: bytes, data: bytes) -> bool:
    """Whether a datagram is a reply to a query: ID, QR, opcode, and one question that is equal to the letter (RFC 5452 §9.1)."""
    return (
        data.startswith(query[:2])
        and data.startswith(query[HEADER_SIZE:], HEADER_SIZE)
        and data[4:6] == ONE_QUESTION
        and data[2] & 0b11111000 == 0b10000000
    )


def is_reply_in_another_case(query: bytes, data: bytes) -> bool:
    """Whether a datagram would be a reply, were the letters of its question in the case of the query's."""
    question = slice(HEADER_SIZE, len(query))
    return data[question] != query[question] and is_reply(
        query[:HEADER_SIZE] + query[question].lower(), data[:HEADER_SIZE] + data[question].lower()
    )


def read_reply(question: Question, query: bytes, data: bytes, asked_at: float) -> Answer | None:
    """All that is decided about one datagram. None: it is not the reply, go on listening. `asked_at` is in seconds of the loop's clock.

    Raises TemporaryResolverError when this nameserver is of no use for the question, BadAddress or AliasChainTooLong when the
    data are. The text of these errors says what the nameserver did, and goes on after its address.
    """
    if not is_reply(query, data):
        return None
    _, flags, _, answer_count, _, _ = HEADER.unpack_from(data)
    rcode = flags & 0b1111
    try:
        if rcode not in (NOERROR, NXDOMAIN):
            parse(data)
            raise ResponseCodeError(f'answered {rcode_text(rcode)}', rcode)
        if rcode == NOERROR and (answer := read_plain(question, data, len(query), answer_count, asked_at)):
            return answer
        answers, _ = unpack_all(unpack_record, data, len(query), answer_count, {TO_QUESTION: question.fqdn})
        aliases, expires_at, rrset = follow_aliases(question, answers, asked_at)
        if rrset and rcode == NOERROR:
            records = tuple([to_value(record, min(expires_at, expiry(record.ttl, asked_at))) for record in rrset])
            return Answer(records, min([record.expires_at for record in records]), aliases)
        # Only now, since it is for nothing where there are records, and costs as much as the rest.
        authority = parse(data).ns
    except MalformedMessage:
        return None
    soa = next((record for record in authority if record.qtype == SOA and record.qclass == IN), None)
    if rcode == NOERROR and aliases and (flags & TC or not soa):
        return Answer((), expires_at, aliases)
    return dataclasses.replace(read_negative(flags, soa, expires_at, asked_at), aliases=aliases)


def read_plain(question: Question, data: bytes, offset: int, count: int, asked_at: float) -> Answer | None:
    """The answer of a section that holds the addresses which were asked for, each named by a pointer to the question, and nothing else.

    Nearly all are so, and it takes a fifth of the time that reading what may be any section takes; which is left to who can where None
    is said.
    """
    plain = PLAIN_RECORDS.get(question.qtype)
    if plain is None:
        return None
    layout, plain_start, octets, address_class = plain
    end = offset + count * layout.size
    if not count or end > len(data):
        return None
    addresses = []
    first_expires_at = math.inf
    for start, ttl, length, address in layout.iter_unpack(data[offset:end]):
        if start != plain_start or length != octets:
            return None
        expires_at = expiry(ttl, asked_at)
        if expires_at < first_expires_at:
            first_expires_at = expires_at
        addresses.append(address_class(address, expires_at))
    return Answer(tuple(addresses), first_expires_at)


def rcode_text(rcode: int) -> str:
    return RCODES[rcode] if rcode < len(RCODES) else f'rcode {rcode}'


def follow_aliases(
    question: Question, records: Iterable[ResourceRecord], asked_at: float
) -> tuple[tuple[bytes, ...], float, list[ResourceRecord]]:
    """The aliases from the name that is asked for to the first that has records of the type, when the first of these aliases expires, and
    these records (RFC 1034 §3.6.2)."""
    rrsets: dict[tuple[bytes, int], list[ResourceRecord]] = {}
    for record in records:
        if record.qclass == IN:
            rrsets.setdefault((record.name.lower(), record.qtype), []).append(record)
    chain = [question.fqdn]
    expires_at = math.inf
    while (rrset := rrsets.get((chain[-1], question.qtype))) is None and (links := rrsets.get((chain[-1], CNAME))):
        expires_at = min(expires_at, expiry(links[0].ttl, asked_at))
        chain.append(links[0].rdata.lower())
        check_chain(chain, 'gave')
    return tuple(chain[1:]), expires_at, rrset or []


def check_chain(chain: Sequence[bytes], whose: str) -> None:
    """Raises AliasChainTooLong where a name and the aliases that it leads to have no end that is worth waiting for."""
    is_loop = len(set(chain)) < len(chain)
    if is_loop or len(chain) - 1 > MAX_ALIASES:
        what = 'a loop of' if is_loop else f'more than {MAX_ALIASES}'
        raise AliasChainTooLong(f'{whose} {what} aliases: {" → ".join(map(text, chain))}')


def expiry(ttl: int, asked_at: float) -> float:
    if ttl > MAX_TTL:
        ttl = MAX_TTL if ttl < 1 << 31 else 0  # RFC 2181 §8
    return asked_at + ttl


def to_value(record: ResourceRecord, expires_at: float) -> Value:
    name, qtype, _, _, rdata = record
    if qtype == TXT:
        return BytesExpiresAt(join_strings(rdata), expires_at)
    if qtype == CNAME:
        return BytesExpiresAt(rdata.lower(), expires_at)  # its letters may be those of our query, by compression
    octets, address_class = ADDRESSES[qtype]
    if len(rdata) != octets:
        raise BadAddress(f'gave {text(name)} an {TYPES(qtype).name} record of {len(rdata)} octets, where an address has {octets}')
    return address_class(rdata, expires_at)


def join_strings(rdata: bytes) -> bytes:
    """The character-strings of a TXT record, each a length and so many octets (RFC 1035 §3.3.14), as one."""
    strings = []
    offset = 0
    while offset < len(rdata):
        start, offset = offset + 1, offset + 1 + rdata[offset]
        strings.append(rdata[start:offset])
    if offset > len(rdata):
        raise MalformedMessage(f'the last character-string of a TXT record is to end at octet {offset} of {len(rdata)}')
    return b''.join(strings)


def read_negative(flags: int, soa: ResourceRecord | None, expires_at: float, asked_at: float) -> Answer:
    """The answer of a reply without records: that there are none, and for how long that is so (RFC 2308 §5). Or this nameserver is out."""
    missing: type[DoesNotExist] = NameDoesNotExist
    evidence = 'answered NXDOMAIN'
    if flags & 0b1111 == NOERROR:
        if flags & TC:
            raise TemporaryResolverError('answered with a truncated reply that holds no record')
        if not soa and not flags & (AA | RA):
            raise TemporaryResolverError('answered that it neither knows nor looks up the name (lame)')
        missing, evidence = NoRecords, 'answered with no such record'
    if not soa or flags & TC:
        return Answer((), asked_at, missing=missing, evidence=evidence)
    minimum = int.from_bytes(soa.rdata[-4:], 'big')
    expires_at = min(expires_at, expiry(soa.ttl, asked_at), expiry(minimum, asked_at), asked_at + MAX_NEGATIVE_TTL)
    return Answer((), expires_at, missing=missing, evidence=evidence)


def answer_special(question: Question, now: float) -> Answer | None:
    """The answer for a name that is never asked for: loopback for localhost (RFC 6761 §6.3), none for what the DNS does not have."""
    domain = top_level(question.fqdn)
    if domain not in NEVER_ASKED:
        return None
    if domain != b'localhost':
        return Answer((), now, missing=NameDoesNotExist, evidence='such names are not in the DNS (RFC 7686, RFC 6761)')
    if question.qtype not in LOOPBACK:
        return Answer((), now, missing=NoRecords, evidence='names under localhost have addresses alone (RFC 6761)')
    return Answer((ADDRESSES[question.qtype][1](LOOPBACK[question.qtype], now),), now)


# --- 0x20 --------------------------------------------------------------------------------------------------------------

CASE_BITS = bytes(0x20 if chr(octet).isalpha() and octet < 128 else 0 for octet in range(256))


def mix_case(fqdn: bytes) -> bytes:
    """A name with each letter in a case drawn by chance, so that who forges a reply has more to guess (draft-vixie-dnsext-dns0x20)."""
    return flip_letters(fqdn, os.urandom(len(fqdn)))


def flip_letters(octets: bytes, noise: bytes) -> bytes:
    """Each letter in the other case where one bit of as many octets says so; a name may be in wire format, where no length is a letter."""
    to_int = int.from_bytes
    flips = to_int(octets.translate(CASE_BITS), 'big') & to_int(noise, 'big')
    return (to_int(octets, 'big') ^ flips).to_bytes(len(octets), 'big')


def flip_case(question: Question, noise: bytes) -> bytes:
    return flip_letters(question.wire, noise)


def keep_case(question: Question, _: bytes) -> bytes:
    return question.wire


def case_by_hook(transform_fqdn: Callable[[bytes], bytes]) -> SetCase:
    """The case that a hook gives to letters, which is all that it may change."""

    def set_case(question: Question, _: bytes) -> bytes:
        fqdn = transform_fqdn(question.fqdn)
        if not isinstance(fqdn, bytes) or fqdn.lower() != question.fqdn:
            raise ResolverError(f'{question}: transform_fqdn may change the case of letters alone, and made {fqdn!r} of {question.fqdn!r}')
        return pack_name(fqdn) + question.wire[-QUESTION_TAIL.size :]

    return set_case


# --- The system's files ------------------------------------------------------------------------------------------------

HOSTS, RESOLV_CONF = '/etc/hosts', '/etc/resolv.conf'
SHORTAGE = errno.EMFILE, errno.ENFILE, errno.ENOBUFS  # of what the process or the machine may have open


class Nameserver(NamedTuple):
    family: int
    host: str
    port: int
    zone: str
    address: tuple[str, int] | None  # what `connect` takes, so that it looks nothing up; None with a zone

    def __str__(self) -> str:
        host = f'{self.host}%{self.zone}' if self.zone else self.host
        return f'[{host}]:{self.port}' if self.family == socket.AF_INET6 else f'{host}:{self.port}'

    def address_in_zone(self) -> tuple[str, int, int, int]:
        """What `connect` takes, at this time. Raises OSError where there is no such zone."""
        return self.host, self.port, 0, int(self.zone) if self.zone.isdigit() else socket.if_nametoindex(self.zone)


@functools.lru_cache(maxsize=1000)
def to_nameserver(ip: object, port: int) -> Nameserver:
    """Raises ValueError where the parts are not an IP address, or its text, and a port."""
    address = ipaddress.ip_address(str(ip))
    if not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError(f'{port!r} is no port')
    if isinstance(address, ipaddress.IPv4Address):
        return Nameserver(socket.AF_INET, str(address), port, '', (str(address), port))
    host, _, zone = str(address).partition('%')
    if not re.fullmatch('[0-9]{1,9}|(?![0-9]+$)[!-~]+', zone or '0'):
        raise ValueError(f'{zone!r} is no zone')
    return Nameserver(socket.AF_INET6, host, port, zone, None if zone else (host, port))


class ResolvConf(NamedTuple):
    """What resolv.conf(5) says; times are in seconds."""

    nameservers: tuple[Nameserver, ...] = ()
    search: tuple[bytes, ...] = ()
    ndots: int = 1
    timeout: float = 0.5
    attempts: int = 5
    rotate: bool = False
    reload: bool = True
    randomize_case: bool = True


def without_bom(line: str) -> str:
    return line.removeprefix('\ufeff').removeprefix('ï»¿')  # the second: UTF-8's, read in an encoding of one octet a letter


def to_fqdns(names: Iterable[str]) -> Iterable[bytes]:
    """Those of the names in a file that are names."""
    for name in names:
        try:
            yield to_fqdn(name)
        except InvalidName:
            continue


def parse_resolv_conf(lines: Iterable[str]) -> ResolvConf:
    """The contents of a resolv.conf; what makes no sense in it is skipped."""
    nameservers: list[Nameserver] = []
    found: dict[str, Any] = {}
    for line in lines:
        keyword, *words = re.split('[#;]', without_bom(line), maxsplit=1)[0].split() or ['']
        if keyword == 'nameserver':
            nameservers.extend(to_nameservers(words[:1]))
        elif keyword in ('search', 'domain'):
            domains = tuple(dict.fromkeys(to_fqdns(words if keyword == 'search' else words[:1])))
            if domains or words == ['.']:  # the root: no search list
                found['search'] = domains
        elif keyword == 'options':
            for word in words:
                found.update(parse_option(word))
    return ResolvConf(tuple(nameservers) or (to_nameserver('127.0.0.1', 53),), **found)


def to_nameservers(words: Iterable[str]) -> Iterable[Nameserver]:
    """Those of the words in a file that are IP addresses."""
    for word in words:
        with contextlib.suppress(ValueError):
            yield to_nameserver(word, 53)


def parse_option(word: str) -> dict[str, Any]:
    name, _, value = word.partition(':')
    flags = {'rotate': {'rotate': True}, 'no-reload': {'reload': False}, 'randomize-case:0': {'randomize_case': False}}
    bounds = {'ndots': (0, 15), 'timeout': (1, 30), 'attempts': (1, 5)}
    if name in bounds and value.isascii() and value.isdigit():
        low, high = bounds[name]
        return {name: max(low, min(high, int(value.lstrip('0')[:9] or 0)))}
    return flags.get(word, {})


def parse_hosts(lines: Iterable[str]) -> dict[bytes, list[str]]:
    """The contents of a hosts(5) file: what each of its names is an address of, in the order of the file, as text."""
    hosts: dict[bytes, list[str]] = {}
    for line in lines:
        address, *names = without_bom(line).partition('#')[0].split() or ['']
        for fqdn in to_fqdns(names):
            hosts.setdefault(fqdn, []).append(address)
    return hosts


class SystemFile(Generic[T]):
    """What a file of the system says, read when it is needed for the first time and again when it has changed.

    `parse_lines` is given no line of a file that cannot be read. `reload` says of its result whether to look at the file again.
    """

    def __init__(self, path: str, parse_lines: Callable[[Iterable[str]], T], reload: Callable[[T], bool] = lambda _: True) -> None:
        self.path = path
        self.parse_lines = parse_lines
        self.reload = reload
        self.looked_at = self.look_again_at = -math.inf
        self.version: tuple[int, ...] | None = None
        self.contents: T | None = None

    def read(self, now: float) -> T:
        """The parsed contents at a time in seconds, of any clock that is always the same."""
        if self.looked_at <= now < self.look_again_at:
            return self.contents  # type: ignore[return-value]
        self.looked_at, self.look_again_at = now, now + LOOK_AGAIN_AFTER
        if self.contents is None or self.reload(self.contents):
            self.look()
        assert self.contents is not None
        return self.contents

    def look(self) -> None:
        version = self.find_version()
        if self.contents is not None and version == self.version:
            return
        is_whole = True
        try:
            lines = self.read_lines()
        except OSError as error:
            lines, is_whole = [], error.errno not in SHORTAGE
        # What could not be read for want of descriptors, or was written to meanwhile and may have been read by half, is read
        # again at the next look; what is known already is nearer the truth until then.
        is_whole = is_whole and self.find_version() == version
        if not is_whole and self.contents is not None:
            return
        self.version = version if is_whole else None
        if not is_whole:
            self.look_again_at = -math.inf
        self.contents = self.parse_lines(lines)

    def find_version(self) -> tuple[int, ...]:
        try:
            found = os.stat(self.path)
        except OSError:
            return ()
        return found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def read_lines(self) -> list[str]:
        version = self.find_version()
        if version and not stat.S_ISREG(version[0]):
            return []  # to open a pipe could block
        with open(self.path, 'r') as file:  # noqa: UP015
            if isinstance(file, io.TextIOWrapper):
                file.reconfigure(errors='replace')
            return list(file)


def to_addresses(words: Iterable[str], qtype: int, expires_at: float) -> tuple[Address, ...]:
    """Those of the words in a file that are addresses of the family."""
    addresses = [to_literal(word, expires_at) for word in dict.fromkeys(words)] if qtype in ADDRESSES else []
    return tuple(address for address in addresses if isinstance(address, ADDRESSES[qtype][1]))


class FailingNameservers:
    """Which nameservers of resolv.conf fail, and when each is tried again; until then it is asked last."""

    def __init__(self) -> None:
        self.retry_at: dict[Nameserver, float] = {}

    def choose(self, nameservers: Sequence[Nameserver], now: float) -> Nameserver:
        """Which of some nameservers to ask next: the first that does not fail, or whose time to be tried again has come.

        One that is tried again fails on for the next who choose.
        """
        if not self.retry_at:
            return nameservers[0]
        chosen = min(nameservers, key=lambda nameserver: now < self.retry_at.get(nameserver, now))
        if now >= self.retry_at.get(chosen, math.inf):
            self.retry_at[chosen] = now + FAILING_FOR
        return chosen

    def failed(self, nameserver: Nameserver, now: float, question: Question, error: Exception) -> None:
        if nameserver not in self.retry_at:
            logger.warning('nameserver %s %s (%s): for %s s it is asked last', nameserver, error, question, FAILING_FOR)
        self.retry_at[nameserver] = now + FAILING_FOR

    def answered(self, nameserver: Nameserver, question: Question) -> None:
        if self.retry_at and self.retry_at.pop(nameserver, None) is not None:
            logger.info('nameserver %s answered %s: it is back', nameserver, question)


# --- Exchange ----------------------------------------------------------------------------------------------------------
#
# A question is put to nameservers by an Inquiry: set after set, over a socket of its own for each query, until one answers. It
# waits for one future at a time, that the answer or the deadline of the set ends. The sockets of a set that is over stay open, so
# that a nameserver which is slower than its timeout still answers, until the Inquiry is closed and with it all that it holds.


def settle(future: asyncio.Future[T], result: T) -> None:
    """Ends a future that somebody may wait for, unless it is over, or the loop is: then nobody does."""
    if not future.done() and not future.get_loop().is_closed():
        future.set_result(result)


async def recvfrom(loop: asyncio.AbstractEventLoop, socks: Sequence[socket.socket], max_bytes: int) -> tuple[bytes, Any]:
    """The first datagram to arrive at any of several non-blocking UDP sockets, and the address it came from.

    Raises OSError, of the first socket with an error. Cancelled, it leaves no reader behind, and no datagram is lost.
    """
    by_fd = {sock.fileno(): sock for sock in socks}
    while True:
        readable: asyncio.Future[socket.socket] = loop.create_future()
        try:
            for fd, sock in by_fd.items():
                loop.add_reader(fd, settle, readable, sock)
            first = await readable
        finally:
            for fd in by_fd:
                loop.remove_reader(fd)
        # Where there is nothing to read, another was quicker, or the checksum was wrong.
        with contextlib.suppress(BlockingIOError):
            return first.recvfrom(max_bytes)


class Selector:
    """The part of `select.epoll` that Poller uses, for systems that have another such thing (kqueue): each is reported once."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def register(self, fd: int, _: int) -> None:
        with contextlib.suppress(KeyError):  # what had this number was closed before it was reported
            self.selector.unregister(fd)
        self.selector.register(fd, selectors.EVENT_READ)

    modify = register

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        readable = [(key.fd, events) for key, events in self.selector.select(timeout)]
        for fd, _ in readable:
            self.selector.unregister(fd)
        return readable

    def fileno(self) -> int:
        return self.selector.fileno()

    def close(self) -> None:
        self.selector.close()


new_epoll: Callable[[], Any] = getattr(select, 'epoll', Selector)
# Each descriptor is reported once, since a forked child may hold open what is closed here, and the kernel would go on to report it.
READABLE_ONCE: int = getattr(select, 'EPOLLIN', 0) | getattr(select, 'EPOLLONESHOT', 0)


class Watched(Protocol):
    """What a Poller watches the socket of."""

    def send(self, now: float, may_wait: bool) -> bool:
        """Sends what is to be sent; `now` is in seconds of the loop's clock.

        With `may_wait`, which says that others are under way, it may say False: then it is called again when one of these is over.
        """

    def read(self) -> None:
        """There may be a datagram, or an error, to be had from the socket. For the next, `watch_on` is to be called."""


class Poller:
    """Says when to read from a socket, and when to send in this step of the loop, and ends futures whose time is up.

    The loop knows of one file descriptor and one timer, however many sockets and futures there are. Both are gone from it when
    the timer finds nothing to wait for any more, and so at the latest one timeout after the last call of `end_after`.

    Queries leave one right after the other, after all that is to be done in a step of the loop, since to wake a nameserver of this
    machine for each by itself costs a quarter of the time of a look-up. One that is alone leaves at once: it has nobody to wait for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.epoll: Any = None
        self.watched: dict[int, Watched] = {}  # by file descriptor
        self.outbox: dict[int, Watched] = {}  # those of them that have not sent yet
        self.is_flush_due = False
        self.deadlines: list[tuple[float, int, asyncio.Future[Any]]] = []  # a heap
        self.serial = itertools.count()
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = math.inf

    def watch(self, fd: int, watched: Watched) -> None:
        """Lets it send at the next flush, and read when its socket can be read from. Raises OSError or ResolverError."""
        if self.epoll is None:
            self.start()
        try:
            self.epoll.register(fd, READABLE_ONCE)
        except OSError:
            self.stop_if_idle()
            raise
        self.watched[fd] = self.outbox[fd] = watched

    def watch_on(self, fd: int) -> None:
        """Lets it read once more."""
        self.epoll.modify(fd, READABLE_ONCE)

    def forget(self, fd: int) -> None:
        """To be called when the descriptor is closed, with which the kernel forgets it."""
        del self.watched[fd]
        self.outbox.pop(fd, None)
        if self.outbox and not self.is_flush_due:
            self.flush_soon()  # there was no room for these, and may be now
        self.stop_if_idle()

    def post(self) -> None:
        """Sends what is to be sent: now, where nothing else is under way or enough has come together, or else at the end of the step."""
        if len(self.outbox) == len(self.watched) or len(self.outbox) >= FULL_OUTBOX:
            self.flush()
        elif not self.is_flush_due:
            self.flush_soon()

    def flush_soon(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon(self.flush)
            self.is_flush_due = True

    def flush(self) -> None:
        self.is_flush_due = False
        now = self.loop.time()
        for fd, waiting in list(self.outbox.items()):
            if not waiting.send(now, len(self.outbox) < len(self.watched)):
                break
            self.outbox.pop(fd, None)

    def end_after(self, timeout: float, future: asyncio.Future[Any], now: float) -> None:
        """Ends a future with the result None when so many seconds have passed, unless it is over by then."""
        if self.timer is not None and self.timer_at < now:
            self.timer.cancel()  # which may never go off, when somebody had his own clock in the loop: what is due is ended here
            self.tick()
        deadline = now + timeout
        if len(self.deadlines) > 2 * len(self.watched) + 100:
            self.deadlines = [entry for entry in self.deadlines if not entry[2].done()]
            heapq.heapify(self.deadlines)
        heapq.heappush(self.deadlines, (deadline, next(self.serial), future))
        if deadline < self.timer_at:
            self.set_timer(deadline)

    def set_timer(self, when: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer_at = when
        self.timer = self.loop.call_at(when, self.tick)

    def tick(self) -> None:
        now = self.loop.time()
        self.timer, self.timer_at = None, math.inf
        while self.deadlines and (self.deadlines[0][0] <= now or self.deadlines[0][2].done()):
            settle(heapq.heappop(self.deadlines)[2], None)
        if self.deadlines:
            self.set_timer(self.deadlines[0][0])
        self.stop_if_idle()

    def start(self) -> None:
        epoll = new_epoll()
        try:
            self.loop.add_reader(epoll.fileno(), self.dispatch)
        except (NotImplementedError, AttributeError) as error:  # the second: a selector that is no file itself
            epoll.close()
            raise ResolverError(
                f'{type(self.loop).__name__} has no add_reader, or this system neither epoll nor kqueue, without which no nameserver '
                'can be asked: run asyncio on a SelectorEventLoop or on uvloop, on Linux, macOS or BSD'
            ) from error
        self.epoll = epoll

    def stop_if_idle(self) -> None:
        if self.timer is None and not self.watched and self.epoll is not None and not self.loop.is_closed():
            self.loop.remove_reader(self.epoll.fileno())
            self.close()

    def close(self) -> None:
        """Closes what the loop, if it is not closed itself, has forgotten by now."""
        if self.epoll is not None:
            self.epoll.close()
            self.epoll = None

    def dispatch(self) -> None:
        for fd, _ in self.epoll.poll(0):
            if fd in self.watched:
                self.watched[fd].read()


class Lender(Protocol):
    """Who holds turns that he can do without."""

    def give_up_spare(self) -> None:
        """Gives these turns back."""


class Turns:
    """The right to open sockets: at most `limit` are open at once, and who asks first has the right first.

    When the system gives fewer than that, the limit is what it gave; each turn given back lets one more be tried.
    """

    def __init__(self, most: int) -> None:
        self.most = self.limit = most
        self.taken = 0
        self.queue: collections.OrderedDict[asyncio.Future[int], int] = collections.OrderedDict()
        self.lenders: dict[Lender, None] = {}
        self.is_call_due = False

    def take_free(self, wanted: int) -> int:
        """Takes as many turns as can be had at once, and says how many these are."""
        if self.queue:
            return 0
        if self.taken + wanted > self.limit:
            wanted = max(0, self.limit - self.taken)
        self.taken += wanted
        return wanted

    async def take(self, wanted: int, instead_of: int = 0) -> int:
        """Waits for so many turns, or for all that there are where these are fewer, and says how many were taken.

        Who has some already gives these back for them, and comes before all others.
        """
        self.taken -= instead_of
        if (instead_of or not self.queue) and self.taken + min(wanted, self.limit) <= self.limit:
            self.taken += min(wanted, self.limit)
            return min(wanted, self.limit)
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.queue[turn] = wanted
        if instead_of:
            self.queue.move_to_end(turn, last=False)
        if self.lenders:
            self.call_in()
        granted = 0
        try:
            granted = await turn
        finally:
            # Whoever is cancelled in the very step in which his turn came had it, and gives it to the next.
            if not granted:
                self.queue.pop(turn, None)
                self.give_back(turn.result() if turn.done() and not turn.cancelled() else 0)
        return granted

    def give_back(self, count: int) -> None:
        """Lets those have the turns who waited longest."""
        self.taken -= count
        if self.limit < self.most:
            self.limit = min(self.most, self.limit + count)
        while self.queue and self.taken < self.limit:
            turn, wanted = next(iter(self.queue.items()))
            granted = 0 if turn.done() else min(wanted, self.limit)
            if self.taken + granted > self.limit:
                break
            del self.queue[turn]
            self.taken += granted
            settle(turn, granted)

    def lend(self, lender: Lender) -> None:
        """To be called by who goes to wait, and does not need all the turns that he holds for that.

        When others wait for a turn, he is to give these up, unless he takes himself out of `lenders` before.
        """
        self.lenders[lender] = None
        if self.queue and not self.is_call_due:
            asyncio.get_running_loop().call_soon(self.call_in)
            self.is_call_due = True

    def call_in(self) -> None:
        """Has turns given back that were lent, as long as somebody waits for one."""
        self.is_call_due = False
        while self.queue and self.lenders:
            lender = next(iter(self.lenders))
            del self.lenders[lender]
            lender.give_up_spare()

    def found_shortage(self, own: int) -> bool:
        """To be called when the system refuses a socket: no more are to be had than the others have, if there are others."""
        others = self.taken - own
        if others > 0:
            self.limit = others
        return others > 0


@functools.lru_cache(maxsize=1000)
def to_set(timeout: float, *nameservers: tuple[Any, int]) -> tuple[float, tuple[Nameserver, ...]]:
    """What a hook yielded as the timeout in seconds and the nameservers of a set. Raises ValueError, TypeError or OverflowError."""
    if not 0 <= timeout < math.inf:
        raise ValueError(f'{timeout!r} is no timeout')
    return float(timeout), tuple(to_nameserver(*nameserver) for nameserver in nameservers)


def check_set(question: Question, given: Any) -> tuple[float, tuple[Nameserver, ...]]:
    """The timeout and the nameservers of a set that a hook yielded. Raises ResolverError."""
    try:
        return to_set(*given)
    except (TypeError, ValueError, OverflowError) as error:
        raise ResolverError(
            f'{question}: get_nameservers yielded {given!r}, where (timeout, (ip, port), ...) is needed, '
            f'the ip being that of a nameserver, not its name: {error}'
        ) from error


SOCKET_TYPE: int = socket.SOCK_DGRAM | getattr(socket, 'SOCK_NONBLOCK', 0)  # with which Linux does in one call what takes two


class Socket(socket.SocketType):
    """A socket that is closed without a warning when it is collected: with a loop that is no more, that may be before its Inquiry is."""

    __slots__ = ()
    __del__ = socket.SocketType.close  # which minds no socket that the system refused to make


class Exchange:
    """One query to one nameserver, over a socket of its own, which the Poller watches."""

    __slots__ = (
        'fd',
        'inquiry',
        'nameserver',
        'query',
        'sock',
    )

    def __init__(self, inquiry: Inquiry, nameserver: Nameserver, query: bytes) -> None:
        """Opens the socket. Raises OSError."""
        self.inquiry = inquiry
        self.nameserver = nameserver
        self.query = query
        self.sock = sock = Socket(nameserver.family, SOCKET_TYPE)
        self.fd = sock.fileno()
        try:
            if sock.getblocking():
                sock.setblocking(False)
            sock.connect(nameserver.address or nameserver.address_in_zone())
            inquiry.poller.watch(self.fd, self)
        except (OSError, ResolverError):
            sock.close()
            raise

    def send(self, now: float, may_wait: bool) -> bool:
        """Sends the query, or says False where there is no room for it in the buffers of the system."""
        self.inquiry.start_clock(now)
        try:
            self.sock.send(self.query)
        except OSError as error:
            if may_wait and error.errno in SHORTAGE:
                return False
            self.inquiry.rule_out(self, socket_error(error))
        return True

    def read(self) -> None:
        inquiry = self.inquiry
        try:
            data = self.sock.recv(MAX_DATAGRAM)
            answer = read_reply(inquiry.question, self.query, data, inquiry.asked_at)
        except BlockingIOError:  # a datagram whose checksum was wrong
            inquiry.poller.watch_on(self.fd)
        except TemporaryResolverError as error:
            inquiry.rule_out(self, error)
        except OSError as error:
            inquiry.rule_out(self, socket_error(error))
        except ResolverError as error:
            inquiry.accept(self, type(error)(f'{inquiry.question}: {self.nameserver} {error}'))
        else:
            if answer is not None:
                inquiry.accept(self, answer)
                return
            inquiry.poller.watch_on(self.fd)
            if is_reply_in_another_case(self.query, data):
                inquiry.case_lost_by[self.nameserver] = None

    def close(self) -> None:
        self.inquiry.poller.forget(self.fd)
        self.sock.close()


def socket_error(error: OSError) -> TemporaryResolverError:
    """An error of the socket to a nameserver, as it is kept among the failures."""
    failure: NameserverRefused | NameserverUnreachable
    if isinstance(error, ConnectionRefusedError):
        failure = NameserverRefused('refused: nothing listens there')
    else:
        failure = NameserverUnreachable(f'cannot be asked: {error.strerror or error}')
    failure.__cause__ = error
    return failure


class Inquiry:
    """One question, put to nameservers until one of them answers. To be closed, when it leaves nothing open."""

    __slots__ = (
        'asked_at',
        'case_lost_by',
        'exchanges',
        'failing',
        'failures',
        'in_set',
        'is_logged',
        'poller',
        'question',
        'result',
        'set_case',
        'timeout_to_start',
        'turns',
        'turns_held',
        'woken',
    )

    def __init__(
        self,
        question: Question,
        poller: Poller,
        turns: Turns,
        turns_held: int,
        set_case: SetCase,
        failing: FailingNameservers | None,
    ) -> None:
        self.question = question
        self.poller = poller
        self.turns = turns
        self.turns_held = turns_held
        self.set_case = set_case
        self.failing = failing
        self.is_logged = logger.isEnabledFor(logging.DEBUG)
        self.asked_at = math.inf  # when the first query was about to be sent
        self.exchanges: dict[Exchange, None] = {}  # whose sockets are open, the oldest first
        self.in_set: dict[Exchange, None] = {}  # those of them that the set which is waited for has left
        self.failures: list[tuple[Nameserver, TemporaryResolverError]] = []
        self.case_lost_by: dict[Nameserver, None] = {}
        self.result: Answer | ResolverError | None = None
        self.woken: asyncio.Future[None] | None = None
        self.timeout_to_start: float | None = None  # of the set that is waited for, as long as nothing of it was sent

    def close(self) -> None:
        self.keep()
        self.in_set.clear()
        self.give_up_spare()
        # What is left is not to be for the garbage collector: errors know the frames they went through, and these their Inquiry.
        self.failures.clear()
        self.result = None

    def give_up_spare(self) -> None:
        """Closes all sockets but those of the set that is waited for, and gives all turns back but theirs."""
        for exchange in list(self.exchanges):
            if exchange not in self.in_set:
                self.give_up(exchange)
        spare = self.turns_held - len(self.exchanges)
        self.turns_held -= spare
        self.turns.give_back(spare)

    def give_up(self, exchange: Exchange) -> None:
        del self.exchanges[exchange]
        exchange.close()

    async def ask(self, timeout: float, nameservers: Sequence[Nameserver]) -> Answer | None:
        """Asks a set of nameservers, or says None when its time is up or all of them are out. Raises ResolverError."""
        unasked = len(nameservers)
        has_waited = False
        # Once round, unless there was room for the first of the set alone, and these are out.
        while unasked and not self.in_set and self.result is None:
            if not self.take_missing(unasked):
                await self.make_room(unasked)
            while unasked and self.turns_held > len(self.exchanges) and self.start(nameservers[-unasked]):
                unasked -= 1
            if self.in_set:
                has_waited = True
                self.timeout_to_start, self.woken = timeout, self.poller.loop.create_future()
                if self.turns_held > len(self.in_set):
                    self.lend()
                self.poller.post()
                await self.woken
                self.keep()
        if isinstance(self.result, Answer):
            return self.result
        if self.result is not None:
            raise self.result
        self.end_set(timeout)
        if not has_waited:
            await asyncio.sleep(0)  # a hook that yields such sets for ever does not have the loop for itself
        return None

    def start_clock(self, now: float) -> None:
        """To be called when a query is about to be sent: if it is the first of its set, the time of the set starts."""
        if self.timeout_to_start is not None:
            assert self.woken is not None
            self.poller.end_after(self.timeout_to_start, self.woken, now)
            self.timeout_to_start = None
            if now < self.asked_at:
                self.asked_at = now

    def end_set(self, timeout: float) -> None:
        """The time of a set is up, or all of it is out."""
        for exchange in list(self.in_set):
            if exchange.fd in self.poller.outbox:
                self.rule_out(exchange, socket_error(OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))))
            else:
                self.note_failure(exchange.nameserver, ResolverTimeout(f'timed out after {timeout:g} s'))
        self.in_set.clear()

    def lend(self) -> None:
        """Until `keep`, others may have the turns that are spare: while a hook is awaited, which may be waiting for just them, or a set."""
        self.turns.lend(self)

    def keep(self) -> None:
        """Takes back what was lent, as far as nobody has called it in."""
        if self.turns.lenders:
            self.turns.lenders.pop(self, None)

    def conclude(self) -> Answer:
        """The answer, if one came when there was no more set to ask. Raises ResolverError."""
        if isinstance(self.result, Answer):
            return self.result
        raise self.result or self.error()

    def take_missing(self, wanted: int) -> bool:
        """Takes the turns that are missing for so many sockets more, as far as they are free, and says whether these can be opened."""
        missing = len(self.exchanges) + wanted - self.turns_held
        if missing <= 0:
            return self.turns.taken <= self.turns.limit  # not so after the system refused a socket, which lowered the limit
        granted = self.turns.take_free(missing)
        self.turns_held += granted
        return granted == missing

    async def make_room(self, wanted: int) -> None:
        """Sees to it that sockets can be opened: who has some open never waits for others, but gives up his own oldest."""
        if self.exchanges:
            while len(self.exchanges) > max(0, self.turns_held - wanted):
                self.give_up_oldest()
        else:
            held, self.turns_held = self.turns_held, 0
            self.turns_held = await self.turns.take(wanted, instead_of=held)

    def start(self, nameserver: Nameserver) -> bool:
        """Has a query ready to be sent to a nameserver, or notes why that was not to be; False: there is no socket for it just now."""
        query = make_query(self.question, self.set_case)
        try:
            exchange = Exchange(self, nameserver, query)
        except OSError as error:
            if error.errno in SHORTAGE and self.make_room_after_shortage():
                return False
            self.note_failure(nameserver, socket_error(error))
            return True
        except ResolverError as error:
            raise with_message(error, f'{self.question}: {error}') from error.__cause__
        if self.is_logged:
            logger.debug('%s: asked %s', self.question, nameserver)
        self.exchanges[exchange] = self.in_set[exchange] = None
        return True

    def make_room_after_shortage(self) -> bool:
        """Gives up the oldest socket or lowers the limit, unless some of the set are under way: then the rest waits for these.

        False: nobody has a socket to wait for.
        """
        if self.in_set:
            return True
        if self.exchanges:
            self.give_up_oldest()
            return True
        return self.turns.found_shortage(self.turns_held)

    def give_up_oldest(self) -> None:
        self.give_up(next(iter(self.exchanges)))

    def rule_out(self, exchange: Exchange, error: TemporaryResolverError) -> None:
        """To be called when a nameserver is of no use for the question."""
        self.note_failure(exchange.nameserver, error)
        if not isinstance(error, OSError) and not is_fault_of_nameserver(error):
            self.note_sign_of_life(exchange)
        self.give_up(exchange)
        if exchange in self.in_set:
            del self.in_set[exchange]
            if not self.in_set:
                self.wake()

    def accept(self, exchange: Exchange, result: Answer | ResolverError) -> None:
        """To be called when a nameserver gave an answer, or data that are an error for whoever asks."""
        if self.is_logged:
            logger.debug('%s: %s gave %s', self.question, exchange.nameserver, result)
        if isinstance(result, Answer) and result.missing:
            result = dataclasses.replace(result, evidence=f'{exchange.nameserver} {result.evidence}')
        self.note_sign_of_life(exchange)
        self.result = self.result or result
        self.wake()

    def wake(self) -> None:
        if self.woken is not None and not self.woken.done():
            self.woken.set_result(None)

    def note_sign_of_life(self, exchange: Exchange) -> None:
        """A nameserver that replies in time is back, be it with an error that is the fault of the name."""
        if self.failing is not None and exchange in self.in_set:
            self.failing.answered(exchange.nameserver, self.question)

    def note_failure(self, nameserver: Nameserver, error: TemporaryResolverError) -> None:
        logger.debug('%s: %s %s', self.question, nameserver, error)
        self.failures.append((nameserver, error))
        if self.failing is not None and is_fault_of_nameserver(error):
            self.failing.failed(nameserver, self.poller.loop.time(), self.question, error)

    def error(self) -> ResolverError:
        """What to raise when no nameserver is left to ask."""
        if not self.failures:
            return TemporaryResolverError(f'{self.question}: there is no nameserver to ask, since get_nameservers yielded none')
        times = collections.Counter(f'{nameserver} {error}' for nameserver, error in self.failures)
        found = [what if count == 1 else f'{what} ({count} times)' for what, count in times.items()]
        if self.case_lost_by:
            by_file = '' if self.failing is None else '"options randomize-case:0" in resolv.conf or '
            found.append(
                f'a reply of {" and ".join(map(str, self.case_lost_by))} was ignored, since the letters of its question are not in the '
                'case they were sent in: if that is how this nameserver is, turn the mixing of the case off, by '
                f'{by_file}Resolver(transform_fqdn=lambda fqdn: fqdn)'
            )
        last = self.failures[-1][1]
        error = with_message(last, f'{self.question}: {"; ".join(found)}')
        error.__cause__ = last.__cause__
        return error


def with_message(error: ResolverError, message: str) -> ResolverError:
    """The same error with another message."""
    other = type(error)(message)
    other.__dict__.update(error.__dict__)
    if isinstance(other, OSError) and isinstance(error.__cause__, OSError):
        other.errno = error.__cause__.errno
    return other


def is_fault_of_nameserver(error: TemporaryResolverError) -> bool:
    """Whether a failure says something of the nameserver, rather than of the name or of this machine."""
    if isinstance(error, ResponseCodeError):
        return error.rcode in (REFUSED, NOTIMP)
    if isinstance(error, NameserverUnreachable):
        cause = error.__cause__
        return isinstance(cause, OSError) and cause.errno not in (*SHORTAGE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC)
    return isinstance(error, (ResolverTimeout, NameserverRefused))


# --- Resolver ----------------------------------------------------------------------------------------------------------


Outcome = Answer | Exception | None
Waiters = collections.OrderedDict[asyncio.Future[Outcome], None]


@dataclasses.dataclass(slots=True)
class Shortcut:
    """The end of the way from a name as it was given, good from one time to another."""

    passed: Sequence[bytes]  # the questions before, by the search list, that have no records
    question: bytes
    records: tuple[Value, ...]
    since: float
    until: float


class Cache:
    """The answers to questions, each until it expires; and one query in flight for a question, however many wait for its answer.

    The first who asks leads: `ask` runs in his task, and what comes of it goes to those who joined. Each of these waits for a
    future of his own, so that whoever is cancelled touches nobody else. A leader who is cancelled hands over to the first of them.

    Names that are asked for again and again are recalled as they were given: no shortcut outlives an answer that was dropped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ask: Callable[[Question], Awaitable[Answer]], max_size: int) -> None:
        self.loop = loop
        self.ask = ask
        self.max_size = max_size
        self.answers: collections.OrderedDict[bytes, Answer] = collections.OrderedDict()  # the least recently used first
        self.in_flight: dict[bytes, Waiters] = {}
        self.shortcuts: dict[tuple[str, int], Shortcut] = {}

    def recall(self, name: str, qtype: int, now: float) -> tuple[Value, ...] | None:
        """The records of a name as it was given, if they have just been found here."""
        try:
            shortcut = self.shortcuts.get((name, qtype))
        except TypeError:
            return None  # a list is no name, and has no hash
        if shortcut is None or not shortcut.since <= now < shortcut.until:
            return None
        if shortcut.passed:  # to loop over nothing takes a twentieth of the time of a name that is recalled
            for passed in shortcut.passed:
                self.answers.move_to_end(passed)
        self.answers.move_to_end(shortcut.question)
        return shortcut.records

    def remember(self, name: str, qtype: int, shortcut: Shortcut) -> None:
        """Has a name recalled, by answers that are kept, until one of all that are kept is dropped."""
        if len(self.shortcuts) >= self.max_size:
            self.shortcuts.clear()
        self.shortcuts[name, qtype] = shortcut

    def kept(self, question: Question, now: float) -> Answer | None:
        """The answer that is there already."""
        answer = self.answers.get(question.wire)
        if answer is None:
            return None
        if now < answer.expires_at:
            self.answers.move_to_end(question.wire)
            return answer
        del self.answers[question.wire]
        self.shortcuts.clear()
        return None

    async def get(self, question: Question) -> Answer:
        """The answer that is waited for, or that is asked for now, where none is kept."""
        waiters = self.in_flight.get(question.wire)
        if waiters is None:
            waiters = self.in_flight[question.wire] = collections.OrderedDict()
        elif answer := await self.join(question, waiters):
            return answer
        try:
            answer = await self.ask(question)
        except Exception as error:  # of a hook, as well: whatever it is, it is for all who wait
            self.finish(question, waiters, error)
            raise
        except BaseException:  # cancelled: another of those who wait is to lead
            self.hand_over(question, waiters)
            raise
        self.finish(question, waiters, answer)
        return answer

    async def join(self, question: Question, waiters: Waiters) -> Answer | None:
        """Waits for what the leader gets; None when he is gone, and the caller is to lead."""
        waiter: asyncio.Future[Outcome] = self.loop.create_future()
        waiters[waiter] = None
        try:
            outcome = await waiter
        except BaseException:
            waiters.pop(waiter, None)
            # Whoever is cancelled in the very step in which the lead came to him hands it on.
            if waiter.done() and not waiter.cancelled() and waiter.result() is None:
                self.hand_over(question, waiters)
            raise
        if isinstance(outcome, Exception):
            try:
                raise outcome.with_traceback(None)
            finally:
                del outcome, waiter  # which this frame, in the traceback of the error, would keep for the garbage collector
        return outcome

    def hand_over(self, question: Question, waiters: Waiters) -> None:
        """Tells the first of those who wait that he is to lead."""
        while waiters:
            waiter, _ = waiters.popitem(last=False)
            if not waiter.done():
                settle(waiter, None)
                return
        self.finish(question, waiters, None)

    def finish(self, question: Question, waiters: Waiters, outcome: Outcome) -> None:
        """Keeps an answer, and gives those who wait what came of it."""
        # Unless the cache was cleared meanwhile, when the question is another's by now, or nobody's.
        if self.in_flight.get(question.wire) is waiters:
            del self.in_flight[question.wire]
            if isinstance(outcome, Answer) and self.loop.time() < outcome.expires_at:
                self.answers[question.wire] = outcome
                if len(self.answers) > self.max_size:
                    self.answers.popitem(last=False)
                    self.shortcuts.clear()
        while waiters:
            settle(waiters.popitem(last=False)[0], outcome)

    def clear(self) -> None:
        self.answers.clear()
        self.shortcuts.clear()
        self.in_flight.clear()


GetHost = Callable[[bytes, int], Awaitable[Any]]
GetNameservers = Callable[[bytes], AsyncGenerator[tuple[Any, ...], None]]
TransformFqdn = Callable[[bytes], bytes]


def resolve_literal(name: str, qtype: int) -> tuple[Value, ...]:
    address = literal_of(name)
    assert address is not None
    if qtype in ADDRESSES and isinstance(address, ADDRESSES[qtype][1]):
        return (address,)
    raise NoRecords(f'{name} {TYPES(qtype).name}: this is an IPv{address.version} address, which has nothing else')


def expiring_by(record: Value, expires_at: float) -> Value:
    if record.expires_at > expires_at:
        record = copy.copy(record)
        record.expires_at = expires_at
    return record


def aliases_text(chain: Sequence[bytes]) -> str:
    return ' → '.join(map(text, chain[1:]))


def does_not_exist(answers: Sequence[tuple[Question, Answer]], as_given: bytes) -> DoesNotExist:
    """The error for a name, when the answer was for it, and all that the search list makes of it, that there are no records."""
    question, answer = next((question, answer) for question, answer in answers if question.fqdn == as_given)
    assert answer.missing is not None
    what = 'does not exist' if answer.missing is NameDoesNotExist else 'has no such record'
    via = f' (an alias: {aliases_text([as_given, *answer.aliases])})' if answer.aliases else ''
    others = ', '.join(text(other.fqdn) for other, _ in answers if other is not question)
    nor = f'; no better with the search list: {others}' if others else ''
    return answer.missing(f'{question}{via}: {what}: {answer.evidence}{nor}')


class LoopResolver:
    """What a Resolver is in one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        get_host: GetHost | None,
        get_nameservers: GetNameservers | None,
        transform_fqdn: TransformFqdn,
        timeout: float | None,
        max_sockets: int,
        max_cache_size: int,
    ) -> None:
        self.loop = loop
        self.get_host = get_host
        self.get_nameservers = get_nameservers
        self.set_case = flip_case if transform_fqdn is mix_case else case_by_hook(transform_fqdn)
        self.timeout = timeout
        self.hosts = SystemFile(HOSTS, parse_hosts)
        self.resolv_conf = SystemFile(RESOLV_CONF, parse_resolv_conf, lambda conf: conf.reload)
        self.failing = FailingNameservers()
        self.rotation = itertools.count()
        self.poller = Poller(loop)
        self.turns = Turns(max_sockets)
        self.cache = Cache(loop, self.ask_by_hook if get_nameservers else self.ask_by_resolv_conf, max_cache_size)

    async def resolve(self, name: str, qtype: int, now: float) -> tuple[Value, ...]:
        """The records of a name that the cache does not recall: of itself, or of the first of several to try that exists."""
        if not isinstance(name, str):
            raise TypeError(f'the name to resolve is a str, and {name!r} is none')
        try:
            qtype = TYPE_EQUAL_TO[qtype]
        except (KeyError, TypeError):
            raise ValueError(f'{qtype!r} is none of the types that can be asked for: {", ".join(TYPES.__members__)}') from None
        if self.get_nameservers is None:
            conf = self.resolv_conf.read(now)
            fqdns = candidates(name, conf.search, conf.ndots)
        else:
            fqdns = candidates(name, (), 0)
        if not fqdns:
            return resolve_literal(name, qtype)
        as_given = fqdns[0] if len(fqdns) == 1 else min(fqdns, key=len)
        if as_given != fqdns[0] and (found := await self.ask_host(Question(as_given, qtype))):
            return found
        answers: list[tuple[Question, Answer]] = []
        by_cache_alone = self.get_host is None
        for fqdn in fqdns:
            question = Question(fqdn, qtype)
            at_hand = await self.at_hand(question)
            answer = at_hand or await self.cache.get(question)
            if answer.is_alias:
                answer = await self.follow(question, answer)
            answers.append((question, answer))
            by_cache_alone = by_cache_alone and answer is at_hand
            if answer.records:
                if by_cache_alone:
                    self.make_shortcut(name, qtype, answers)
                return answer.records
        raise does_not_exist(answers, as_given)

    def make_shortcut(self, name: str, qtype: int, answers: Sequence[tuple[Question, Answer]]) -> None:
        """To the last of some answers of the cache: good until one of them expires, or a file of the way is looked at again."""
        now = self.loop.time()
        until = min(self.hosts.look_again_at, *[answer.expires_at for _, answer in answers])
        if self.get_nameservers is None:
            until = min(until, self.resolv_conf.look_again_at)
        if now < until:
            *passed, (question, answer) = answers
            shortcut = Shortcut([other.wire for other, _ in passed], question.wire, answer.records, now, until)
            self.cache.remember(name, qtype, shortcut)

    async def at_hand(self, question: Question) -> Answer | None:
        """What is there already: by get_host or in the hosts file, or else in the cache."""
        now = self.loop.time()
        if self.get_host is not None or question.fqdn in self.hosts.read(now):
            if records := await self.ask_host(question):
                return Answer(records, min(record.expires_at for record in records))
            now = self.loop.time()
        return self.cache.kept(question, now) or answer_special(question, now)

    async def follow(self, question: Question, answer: Answer) -> Answer:
        """What is at the end of the aliases of a name, the first of which `answer` has: records, or that there are none."""
        chain = [question.fqdn]
        expires_at = math.inf
        while True:
            chain += answer.aliases
            check_chain(chain, f'{question}: the nameservers gave')
            if answer.records:
                records = tuple(expiring_by(record, expires_at) for record in answer.records)
                return Answer(records, min(record.expires_at for record in records))
            expires_at = min(expires_at, answer.expires_at)
            if answer.missing:
                return dataclasses.replace(answer, aliases=tuple(chain[1:]))
            canonical = Question(chain[-1], question.qtype)
            at_hand = await self.at_hand(canonical)
            try:
                answer = at_hand or await self.cache.get(canonical)
            except ResolverError as error:
                if type(error).__module__ != __name__ or not str(error).startswith(f'{canonical}: '):
                    raise  # of a hook, whose errors pass as they are
                raise with_message(error, f'{question} (an alias: {aliases_text(chain)}): {error}') from error.__cause__

    async def ask_host(self, question: Question) -> tuple[Value, ...]:
        """What get_host has for a name, or else the hosts file; none where a nameserver is to be asked."""
        if self.get_host is None:
            now = self.loop.time()
            return to_addresses(self.hosts.read(now).get(question.fqdn, ()), question.qtype, now)
        coroutine = self.get_host(question.fqdn, question.qtype)
        if not hasattr(coroutine, '__await__'):
            raise ResolverError(f'{question}: get_host gave {coroutine!r}: it has to be a coroutine function (async def)')
        found = await coroutine
        if found is None:
            return ()
        now = self.loop.time()
        try:
            return tuple(expiring(value, now) for value in (found if isinstance(found, (tuple, list)) else (found,)))
        except TypeError as error:
            raise ResolverError(
                f'{question}: get_host gave {found!r}, where an ipaddress object, a tuple of them or None is needed: {error}'
            ) from error

    async def ask_by_resolv_conf(self, question: Question) -> Answer:
        """Puts a question to the nameservers of resolv.conf, one at a time."""
        turns_held = self.turns.take_free(1) or await self.turns.take(1)  # first, so that who waits chooses when they are to be asked
        inquiry = Inquiry(question, self.poller, self.turns, turns_held, self.set_case, self.failing)
        try:
            now = self.loop.time()
            conf = self.resolv_conf.read(now)
            if inquiry.set_case is flip_case and not conf.randomize_case:
                inquiry.set_case = keep_case
            timeout = conf.timeout if self.timeout is None else self.timeout
            nameservers = conf.nameservers
            if conf.rotate:
                first = next(self.rotation) % len(nameservers)
                nameservers = nameservers[first:] + nameservers[:first]
            for _round in range(conf.attempts):
                unasked = list(nameservers)
                while unasked:
                    nameserver = self.failing.choose(unasked, now)
                    unasked.remove(nameserver)
                    if answer := await inquiry.ask(timeout, (nameserver,)):
                        return answer
                    now = self.loop.time()
            return inquiry.conclude()
        finally:
            inquiry.close()

    async def ask_by_hook(self, question: Question) -> Answer:
        """Puts a question to the nameservers that get_nameservers yields, a set at a time."""
        assert self.get_nameservers is not None
        turns_held = self.turns.take_free(1) or await self.turns.take(1)
        inquiry = Inquiry(question, self.poller, self.turns, turns_held, self.set_case, None)
        sets: Any = None
        try:
            sets = self.get_nameservers(question.fqdn)
            if not hasattr(sets, 'aclose'):
                raise ResolverError(f'{question}: get_nameservers gave {sets!r}: it has to be an async generator (async def, with yield)')
            inquiry.lend()
            async for given in sets:
                inquiry.keep()
                timeout, nameservers = check_set(question, given)
                if answer := await inquiry.ask(timeout, nameservers):
                    return answer
                inquiry.lend()
            return inquiry.conclude()
        finally:
            inquiry.close()
            # One that runs cannot be closed: this coroutine is, by hand, while the hook awaits (before Python 3.13).
            if hasattr(sets, 'aclose') and not getattr(sets, 'ag_running', False):  # pragma: no branch
                await sets.aclose()


def Resolver(  # noqa: N802
    get_host: GetHost | None = None,
    get_nameservers: GetNameservers | None = None,
    transform_fqdn: TransformFqdn = mix_case,
    *,
    timeout: float | None = None,
    max_sockets: int = 256,
    max_cache_size: int = 10_000,
) -> tuple[Callable[[str, int], Awaitable[tuple[Any, ...]]], Callable[[], None]]:
    """Makes a resolver with a cache of its own: the two functions `resolve` and `clear_cache`. No loop has to run yet.

    get_host: `async def get_host(fqdn: bytes, qtype: int)` gives None, an `ipaddress` object or a tuple of these. Asked for each name
        before the cache and the nameservers; by default it is the hosts file. The name is in lower case, without final dot.
    get_nameservers: an async generator `get_nameservers(fqdn: bytes)` that yields sets `(timeout, (ip, port), ...)`: a timeout in seconds
        and nameservers to ask at the same time. Each set is asked after the one before it gave no answer. By default these come from
        resolv.conf, with its options and search list; with a hook of your own names are taken as they are, and its order is kept.
    transform_fqdn: gives the name in a query the case of its letters. By default it is drawn by chance, against forged replies; with
        `lambda fqdn: fqdn` it stays as it is.
    timeout: seconds for each try of a nameserver of resolv.conf, in place of what stands there (by default 0.5).
    max_sockets: how many sockets, one for each query, are open at the same time in one loop; further look-ups wait for their turn.
    max_cache_size: how many answers are kept; beyond, the one whose last use is longest ago goes.

    Raises ValueError for a number that makes no sense, TypeError for a hook that is no function.
    """
    if max_sockets < 1 or max_cache_size < 0:
        raise ValueError(f'max_sockets is at least 1, and max_cache_size 0: not {max_sockets!r} and {max_cache_size!r}')
    if timeout is not None and get_nameservers is not None:
        raise ValueError('timeout is for the nameservers of resolv.conf: a get_nameservers yields timeouts of its own')
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f'timeout is a number of seconds, not {timeout!r}')
    for hook in (*(hook for hook in (get_host, get_nameservers) if hook is not None), transform_fqdn):
        if not callable(hook):
            raise TypeError(f'get_host, get_nameservers and transform_fqdn are functions, and {hook!r} is none')
    in_loop: dict[asyncio.AbstractEventLoop, LoopResolver] = {}

    def start(loop: asyncio.AbstractEventLoop) -> LoopResolver:
        for other in list(in_loop):  # a copy: other threads may have loops of theirs
            if other.is_closed() and (resolver := in_loop.pop(other, None)):
                resolver.poller.close()
        resolver = LoopResolver(loop, get_host, get_nameservers, transform_fqdn, timeout, max_sockets, max_cache_size)
        in_loop[loop] = resolver
        return resolver

    async def resolve(name: str, qtype: int) -> tuple[Any, ...]:
        """The records of a name: for TYPES.A and TYPES.AAAA addresses, for TYPES.TXT and TYPES.CNAME bytes, each with `expires_at` in
        seconds of `loop.time()`. Never an empty tuple.

        Raises ResolverError: DoesNotExist where there are none (RFC 2308), TemporaryResolverError where no nameserver gave an answer,
        InvalidName before anything is sent; TypeError or ValueError for what is no str or no type of TYPES; and what a hook raises.
        """
        loop = asyncio.get_running_loop()
        resolver = in_loop.get(loop) or start(loop)
        now = loop.time()
        return resolver.cache.recall(name, qtype, now) or await resolver.resolve(name, qtype, now)

    def clear_cache() -> None:
        """Forgets all answers. A query in flight still answers those who wait for it, and them alone."""
        for resolver in list(in_loop.values()):
            resolver.cache.clear()

    return resolve, clear_cache


# --- Command -----------------------------------------------------------------------------------------------------------


def main(args: Sequence[str] | None = None) -> int:
    """`python -m aiodnsresolver`; the exit status."""
    options = parse_arguments(args)
    try:
        status = asyncio.run(print_addresses(options))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        with open(os.devnull, 'w') as devnull:
            os.dup2(devnull.fileno(), sys.stdout.fileno())  # for what is flushed at exit
        return 128 + signal.SIGPIPE
    return status


HELP = """
Prints a line for each address: TTL in seconds (-: never expires), type, name and address, with tabs between. Of several names the
shorter ones are filled up with spaces, so that the addresses line up.

examples:
  %(prog)s www.example.com                 both families, by the nameservers of /etc/resolv.conf
  %(prog)s www.example.com AAAA            IPv6 alone, as with -6
  %(prog)s db cache.internal -4            several names; short ones by the search list
  %(prog)s example.com. --nameserver 192.0.2.53 --nameserver '[2001:db8::53]:5353'
                                                        a final dot: no search list; the nameservers in turn
  %(prog)s www.example.com | cut -f 4      the addresses alone
"""
EXIT_STATUS = """
exit status: 0 when there is an address of either family, 1 when there is none, 2 when that is not to be known now, and for a
wrong call; of several names, the worst
"""
OTHER_TYPES = frozenset(['ANY', 'CAA', 'CNAME', 'HTTPS', 'MX', 'NS', 'PTR', 'SOA', 'SRV', 'TXT'])


def parse_arguments(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m aiodnsresolver',
        allow_abbrev=False,
        usage='%(prog)s NAME... [A|AAAA ...] [-4] [-6] [--json] [--nameserver IP[:PORT]]... [--timeout SECONDS]',
        description=HELP,
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('words', nargs='+', metavar='NAME', help='a name, as people write it; or A or AAAA, for this family alone')
    parser.add_argument('-4', dest='families', default=[], action='append_const', const='A', help='IPv4 alone, as the word A')
    parser.add_argument('-6', dest='families', action='append_const', const='AAAA', help='IPv6 alone, as the word AAAA')
    parser.add_argument('--json', action='store_true', help='print an object a line: name, type, address, ttl (null: never expires)')
    parser.add_argument(
        '--nameserver',
        action='append',
        metavar='IP[:PORT]',
        type=parse_nameserver,
        help='to ask instead of those of resolv.conf; [IP]:PORT for IPv6',
    )
    parser.add_argument('--timeout', type=parse_timeout, metavar='SECONDS', help='for each try (0.5)')
    parser.add_argument('--version', action='version', version=__version__)
    options = parser.parse_intermixed_args(args)
    options.qtypes = [qtype for qtype in (TYPES.A, TYPES.AAAA) if qtype.name in options.words + options.families] or [TYPES.A, TYPES.AAAA]
    options.names = [word for word in options.words if word not in ('A', 'AAAA')]
    if not options.names:
        parser.error('a NAME is needed')
    for name in options.names:
        if name.startswith('@'):
            parser.error(f'{name} is no name: a nameserver is given by --nameserver {name[1:]}')
        if name in OTHER_TYPES:
            parser.error(f'{name}: addresses alone are looked up, of type A or AAAA (for a name like that, add a final dot)')
        if '://' in name:
            parser.error(f'{name} is a URL: what is looked up is the name in it')
    return options


def parse_nameserver(word: str) -> tuple[str, int]:
    bracketed = re.fullmatch(r'\[(.*)\](?::(\d+))?', word)
    if bracketed:
        ip, port = bracketed.groups()
    else:
        ip, _, port = word.partition(':') if word.count(':') == 1 else (word, '', '')
    try:
        to_nameserver(ip, int(port or 53))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f'{word!r} is no IP, IP:PORT or [IP]:PORT of a nameserver: {error}') from error
    return ip, int(port or 53)


def parse_timeout(word: str) -> float:
    try:
        seconds = float(word)
    except ValueError:
        seconds = 0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f'{word!r} is no number of seconds')
    return seconds


def resolver_of(options: argparse.Namespace) -> Callable[[str, int], Awaitable[tuple[Any, ...]]]:
    if not options.nameserver:
        return Resolver(timeout=options.timeout)[0]

    async def get_nameservers(_: bytes) -> AsyncGenerator[tuple[Any, ...], None]:
        for _round in range(ResolvConf().attempts):
            for nameserver in options.nameserver:
                yield options.timeout or ResolvConf().timeout, nameserver

    return Resolver(get_nameservers=get_nameservers)[0]


async def print_addresses(options: argparse.Namespace) -> int:
    """Asks for all at once, prints in the order of the call, and says the exit status."""
    resolve = resolver_of(options)
    calls = [resolve(name, qtype) for name in options.names for qtype in options.qtypes]
    results = iter(await asyncio.gather(*calls, return_exceptions=True))
    width = 0 if options.json else max(len(printable(name)) for name in options.names)
    return max([print_results(name, {qtype: next(results) for qtype in options.qtypes}, width) for name in options.names])


def printable(name: str) -> str:
    """A name as the encoding of the output can show it."""
    encoding = sys.stdout.encoding or 'utf-8'
    return name.encode(encoding, 'backslashreplace').decode(encoding)


def print_results(name: str, results: dict[TYPES, Any], width: int) -> int:
    """Prints what came of one name, filled up to a width or, where that is 0, as JSON; and says the exit status."""
    now = asyncio.get_running_loop().time()
    found = [(qtype, address) for qtype, addresses in results.items() if isinstance(addresses, tuple) for address in addresses]
    for qtype, address in found:
        ttl = None if address.expires_at == math.inf else max(0, math.ceil(address.expires_at - now))
        if width:
            print('-' if ttl is None else ttl, qtype.name, printable(name).ljust(width), address, sep='\t')
        else:
            print(json.dumps({'name': name, 'type': qtype.name, 'address': str(address), 'ttl': ttl}))
    errors = [error for error in results.values() if not isinstance(error, tuple) and not (found and isinstance(error, DoesNotExist))]
    for error in errors:
        if not isinstance(error, ResolverError):
            raise error
    for message in dict.fromkeys(map(str, errors)):
        print(message, file=sys.stderr)
    if found:
        return 0
    return 1 if all(isinstance(error, DoesNotExist) for error in errors) else 2


if __name__ == '__main__':
    sys.exit(main())
