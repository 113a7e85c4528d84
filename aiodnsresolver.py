"""A stub resolver for asyncio: names to IP addresses over UDP. No dependency, no thread, no task.

    resolve, clear_cache = Resolver()
    addresses = await resolve('www.example.com', TYPES.A)

How a name passes through this file, each of whose sections uses only those above it:

    resolve(name, qtype)
      (name, qtype) ── recall ──▶ addresses? done        a name resolved a moment ago
      name ── candidates ──▶ fqdns                       names, search list
      fqdn ── get_host ──▶ addresses? done               hosts file
      (fqdn, qtypes) ── Cache ──▶ hit | follow | lead    one flight for each question
        for (timeout, *nameservers) in get_nameservers   resolv.conf
          Exchange ──▶ datagrams ── read_reply ──▶ Answer | Failure | None
      Answer ──▶ addresses with expires_at | alias: ask again | DoesNotExist

The sections up to "Exchange" are pure or read a file: bytes and values, with the time passed in.
From there on the code touches the event loop. What goes wrong with a query is a value, not an
exception, until `LoopResolver.resolve` raises it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import enum
import errno
import functools
import ipaddress
import itertools
import logging
import math
import os
import re
import select
import socket
import stat
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
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
    'Resolve',
    'Resolver',
    'ResolverError',
    'ResolverTimeout',
    'ResourceRecord',
    'ResponseCodeError',
    'TemporaryResolverError',
    'TransformFqdn',
    'getaddrinfo',
    'mix_case',
    'pack',
    'parse',
    'recvfrom',
]

__version__ = '0.1.0'

logger = logging.getLogger('aiodnsresolver')

T = TypeVar('T')


# --- Vocabulary -----------------------------------------------------------------------------------


class TYPES(enum.IntEnum):
    """The record types that can be asked for (RFC 1035 §3.2.2, RFC 3596 §2.1)."""

    A = 1
    CNAME = 5
    TXT = 16
    AAAA = 28


A, CNAME, SOA, TXT, AAAA = 1, 5, 6, 16, 28  # as plain numbers: enum member access is slow
QUESTION, RESPONSE = 0, 1  # the QR bit
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)  # RFC 1035 §4.1.1
RCODES = [
    *('NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'),
    *(f'rcode {rcode}' for rcode in range(6, 16)),
]
IN = 1  # the class of the Internet

MAX_LABEL = 63  # octets, RFC 1035 §2.3.4
MAX_NAME = 255  # octets on the wire, which are two more than in dotted form
MAX_DATAGRAM = 65535
MAX_LETTERS = 2 * MAX_NAME  # before encoding: the time of the idna codec is quadratic in them
MAX_ALIASES = 16
MAX_TTL = 7 * 24 * 60 * 60  # seconds, RFC 8767 §4
MAX_NEGATIVE_TTL = 60  # seconds, far below RFC 2308 §5, so that a new name is soon visible
FAILING_FOR = 30  # seconds for which a nameserver that failed is asked last
LOOK_AGAIN_AFTER = 1  # seconds between two checks of whether a file has changed
MAX_ERROR_REPLIES = 2  # after this many in a look-up, a nameserver is not asked again
MIN_INTERVAL = 0.01  # seconds between two checks of whether sockets are watched
MAX_READS = 32  # at once of one socket, so that a flood does not hold the loop for long
MAX_FAILURES = 100  # kinds of failures that one look-up remembers, however long it tries

AA, TC, RA = 0x0400, 0x0200, 0x0080  # flags in the second 16 bits of a header

HEADER = struct.Struct('!HHHHHH')  # ID, flags, and the number of records in each of four sections
QUERY_HEADER = HEADER.pack(0, 0x0100, 1, 0, 0, 0)[2:]  # after the ID: RD, and one question
QUESTION_POINTER = bytes((0b11000000, HEADER.size))  # to the name in the question
QUESTION_TAIL = struct.Struct('!HH')  # type and class
RECORD_TAIL = struct.Struct('!HHIH')  # type, class, TTL, length of the data


class QuestionRecord(NamedTuple):
    """A question (RFC 1035 §4.1.2); `name` is dotted, without the final dot."""

    name: bytes
    qtype: int
    qclass: int


class ResourceRecord(NamedTuple):
    """A record (RFC 1035 §4.1.3).

    `ttl` is in seconds. The `rdata` of a CNAME is a dotted name, that of any other type its octets.
    """

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


# --- Errors ---------------------------------------------------------------------------------------


class ResolverError(Exception):
    """The base of all errors of this module."""


class InvalidName(ResolverError, ValueError):
    """The name is not valid in the DNS; nothing was sent."""


class DoesNotExist(ResolverError):
    """The nameserver answered that there is no such name or record."""


class NameDoesNotExist(DoesNotExist):
    """The name does not exist: NXDOMAIN."""


class NoRecords(DoesNotExist):
    """The name exists, but has no record of this type: NODATA (RFC 2308 §2.2)."""


class TemporaryResolverError(ResolverError):
    """No nameserver gave an answer; one may later."""


class ResolverTimeout(TemporaryResolverError, asyncio.TimeoutError):
    """No nameserver gave an answer, and the last thing that happened was a timeout."""


class NameserverRefused(TemporaryResolverError, ConnectionRefusedError):
    """No nameserver gave an answer, and nothing listens at the last one that was asked."""


class NameserverUnreachable(TemporaryResolverError, OSError):
    """No nameserver gave an answer, and the last thing that happened was an error of a socket."""


class ResponseCodeError(TemporaryResolverError):
    """No nameserver gave an answer, and the last reply had the response code in `rcode`."""

    rcode = SERVFAIL


class BadAddress(ResolverError, ipaddress.AddressValueError):
    """The reply has an address record whose length is not that of an address."""


class AliasChainTooLong(ResolverError):
    """The aliases (CNAME records) of a name form a loop or have too many links."""


class MalformedMessage(ResolverError, ValueError):
    """The bytes are not a DNS message."""


class PointerLoop(MalformedMessage):
    """A compressed name has a pointer that does not point to before it (RFC 1035 §4.1.4)."""


# --- Values that expire ---------------------------------------------------------------------------


class AddressExpiresAt:
    """Adds `expires_at` to a class of `ipaddress`."""

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

    def __repr__(self) -> str:
        return f'{type(self).__name__}({str(self)!r}, expires_at={self.expires_at!r})'


class IPv4AddressExpiresAt(AddressExpiresAt, ipaddress.IPv4Address):
    """An `ipaddress.IPv4Address` with `expires_at`, in seconds of the clock `loop.time()`."""

    __slots__ = ('expires_at',)


class IPv6AddressExpiresAt(AddressExpiresAt, ipaddress.IPv6Address):
    """An `ipaddress.IPv6Address` with `expires_at`, in seconds of the clock `loop.time()`."""

    __slots__ = ('expires_at',)


class BytesExpiresAt(bytes):
    """`bytes` with `expires_at`, in seconds of the clock `loop.time()`."""

    expires_at: float

    def __new__(cls, value: bytes, expires_at: float) -> BytesExpiresAt:
        self = super().__new__(cls, value)
        self.expires_at = expires_at
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (bytes(self), self.expires_at)


Address = IPv4AddressExpiresAt | IPv6AddressExpiresAt
Value = Address | BytesExpiresAt

ADDRESSES: dict[int, tuple[int, type[Address]]] = {  # type -> octets of an address, its class
    A: (4, IPv4AddressExpiresAt),
    AAAA: (16, IPv6AddressExpiresAt),
}
VERSIONS = {A: 4, AAAA: 6}  # of the Internet Protocol
PLAIN_TYPES: dict[type, Callable[[Any, float], Value]] = {
    ipaddress.IPv4Address: IPv4AddressExpiresAt,
    ipaddress.IPv6Address: IPv6AddressExpiresAt,
    bytes: BytesExpiresAt,
}


def to_value(value: Any, expires_at: float) -> Value:
    """Gives a value of a hook or a file its `expires_at`, unless it has one. Raises TypeError."""
    if hasattr(value, 'expires_at'):
        return value  # type: ignore[no-any-return]
    for plain, expiring in PLAIN_TYPES.items():
        if isinstance(value, plain):
            return expiring(value, expires_at)
    raise TypeError(f'{value!r} is not an ipaddress object')


# --- Names ----------------------------------------------------------------------------------------

DOT = ord('.')  # an int, since `b'.' in octets` raises and swallows an error inside CPython
DOTS = re.compile('[.\u3002\uff0e\uff61]')  # the dots of the idna codec (RFC 3490 §3.1)
NEVER_IN_A_LABEL = re.compile(rb'[^!-\-/-~]')  # a dot, a space, or what is not printable
TO_ESCAPE = re.compile(rb'[^!-\[\]-~]')  # the same, and the backslash
PLAIN_NAME = re.compile(r'[!-\-/-~]{1,63}(?:\.[!-\-/-~]{1,63})*')
LENGTH_OCTETS = {length: bytes((length,)) for length in range(1, MAX_LABEL + 1)}
SPECIAL_DOMAINS = frozenset([b'localhost', b'onion', b'invalid'])  # RFC 6761, RFC 7686
LOOPBACK: dict[int, str] = {A: '127.0.0.1', AAAA: '::1'}


def name_to_text(name: bytes) -> str:
    """Returns a name as in zone files (RFC 1035 §5.1), safe in a message, a log or a terminal."""
    return TO_ESCAPE.sub(lambda octet: b'\\%03d' % ord(octet[0]), name).decode('ascii') or '.'


def describe(fqdn: bytes, qtypes: Iterable[int], aliases: Sequence[bytes] = ()) -> str:
    """Returns what the messages of errors begin with: `www.example.com A, AAAA`."""
    chain = f' (an alias: {" → ".join(map(name_to_text, aliases))})' if aliases else ''
    return f'{name_to_text(fqdn)} {", ".join(TYPES(qtype).name for qtype in qtypes)}{chain}'


def invalid(name: str | bytes, fault: str) -> InvalidName:
    return InvalidName(
        f'{(name_to_text(name) if isinstance(name, bytes) else name)!r} '
        f'is not a valid name: {fault}'
    )


def to_fqdn(name: str) -> bytes:
    """Returns a name in normal form: dotted, in lower case, without a final dot.

    See RFC 1035 §2.3 and, for names beyond ASCII, RFC 3490 §4. Raises InvalidName.
    """
    if PLAIN_NAME.fullmatch(name) and len(name) <= MAX_NAME - 2:
        return name.lower().encode()
    if len(name) > MAX_LETTERS:
        raise invalid(name[:MAX_LABEL] + '…', f'it has {len(name)} characters')
    fqdn = b'.'.join([
        to_label(label, name)
        for label in DOTS.split(name[:-1] if DOTS.match(name[-1:]) else name)
    ])  # fmt: skip
    if len(fqdn) > MAX_NAME - 2:
        raise invalid(name, f'it has {len(fqdn)} octets, and 253 is the most')
    return fqdn


def to_label(label: str, name: str) -> bytes:
    try:
        octets = label.encode('ascii' if label.isascii() else 'idna').lower()
    except UnicodeError as error:
        raise invalid(name, f'its label {label!r} cannot be written in ASCII: {error}') from error
    if not octets:
        raise invalid(name, 'it has an empty label') if name else InvalidName('the name is empty')
    if len(octets) > MAX_LABEL:
        raise invalid(name, f'its label {label!r} has {len(octets)} octets, and 63 is the most')
    if NEVER_IN_A_LABEL.search(octets):
        raise invalid(
            name, f'its label {label!r} contains a space or another character that is not allowed'
        )
    return octets


def top_level(fqdn: bytes) -> bytes:
    return fqdn.rpartition(b'.')[2]


def to_literal(name: str, fqdn: bytes) -> Address | None:
    """Returns the address that a name is, if it is one, in ASCII digits or others."""
    if ':' in name or fqdn[-1:].isdigit():
        text = name.removesuffix('.') if name.isascii() else fqdn.decode()
        with contextlib.suppress(ValueError):
            return to_value(ipaddress.ip_address(text), math.inf)  # type: ignore[return-value]
    return None


def candidates(name: str, search: tuple[bytes, ...], ndots: int) -> tuple[bytes, list[bytes]]:
    """Returns the name as given, and all names to ask for in their order (resolv.conf(5)).

    Raises InvalidName.
    """
    fqdn = to_fqdn(name)
    if not search or DOTS.match(name[-1]) or top_level(fqdn) in SPECIAL_DOMAINS:
        return fqdn, [fqdn]
    names = [longer for domain in search if len(longer := fqdn + b'.' + domain) <= MAX_NAME - 2]
    return fqdn, [fqdn, *names] if fqdn.count(b'.') >= ndots else [*names, fqdn]


def pack_name(name: bytes) -> bytes:
    """Returns a dotted name in wire format, uncompressed (RFC 1035 §3.1). Raises InvalidName."""
    if len(name) > MAX_NAME - 2:
        raise invalid(name, f'it has {len(name)} octets, and 253 is the most')
    try:
        labels = [LENGTH_OCTETS[len(label)] + label for label in (name.split(b'.') if name else ())]
        return b''.join(labels) + b'\0'
    except KeyError as error:
        raise invalid(name, f'one of its labels has {error} octets, not 1 to 63') from None


def unpack_name(
    data: bytes, start: int, known: dict[int, bytes], pointers: int = 0
) -> tuple[bytes, int]:
    """Returns the name at an offset, and the offset after it (RFC 1035 §4.1.4).

    `known` maps each offset that a pointer of this message led to before to the name there, and is
    added to: so the work on a message is linear, wherever its pointers lead. A pointer must point
    to before the name that it ends, so that each goes back and there is an end. `pointers` is how
    many were followed to get here. Raises MalformedMessage, or IndexError where the data end.
    """
    labels: list[bytes] = []
    offset = start
    while length := data[offset]:
        offset += 1
        if length > MAX_LABEL:
            target = (length & 0b00111111) << 8 | data[offset]
            if length < 0b11000000 or pointers == MAX_NAME // 2:  # as many as labels
                raise MalformedMessage(
                    f'the label at octet {offset - 1} is of a reserved type, or a pointer too many'
                )
            if target >= start:
                raise PointerLoop(
                    f'the pointer at octet {offset - 1} points to octet {target}, which is not '
                    'before its name'
                )
            if target not in known:
                known[target], _ = unpack_name(data, target, known, pointers + 1)
            labels += [known[target]] if known[target] else []
            break
        label = data[offset : offset + length]
        if DOT in label:
            raise MalformedMessage(f'the label at octet {offset - 1} holds a dot')
        labels.append(label)
        offset += length
    name = b'.'.join(labels)
    if len(name) > MAX_NAME - 2:
        raise MalformedMessage(f'the name at octet {start} is longer than {MAX_NAME} octets')
    return name, offset + 1


# --- Messages -------------------------------------------------------------------------------------


def pack(message: Message) -> bytes:
    """Returns a message in wire format, its names uncompressed (RFC 1035 §4.1).

    Raises InvalidName, or ValueError for a number that is too large for its field.
    """
    try:
        return b''.join([
            pack_header(message),
            *(pack_name(name) + QUESTION_TAIL.pack(*rest) for name, *rest in message.qd),
            *(pack_record(record) for section in message[10:] for record in section),
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
    """Returns the message of some bytes (RFC 1035 §4.1), ignoring octets after its last record.

    Raises MalformedMessage, and nothing else, whatever the bytes are.
    """
    known: dict[int, bytes] = {}
    sections: list[Any] = []
    offset = HEADER.size
    try:
        qid, flags, *counts = HEADER.unpack_from(data)
        for count in counts:
            unpack_one = unpack_record if sections else unpack_question
            entries: list[Any] = []
            for _ in range(count):
                entry, offset = unpack_one(data, offset, known)
                entries.append(entry)
            sections.append(tuple(entries))
    except (IndexError, struct.error) as error:
        raise MalformedMessage(f'the message of {len(data)} octets is cut off') from error
    layout = (15, 1), (11, 15), (10, 1), (9, 1), (8, 1), (7, 1), (4, 7), (0, 15)  # shift, mask
    return Message(qid, *[flags >> shift & mask for shift, mask in layout], *sections)


def unpack_question(
    data: bytes, offset: int, known: dict[int, bytes]
) -> tuple[QuestionRecord, int]:
    name, offset = unpack_name(data, offset, known)
    entry = QuestionRecord(name, *QUESTION_TAIL.unpack_from(data, offset))
    return entry, offset + QUESTION_TAIL.size


def unpack_record(data: bytes, offset: int, known: dict[int, bytes]) -> tuple[ResourceRecord, int]:
    name, offset = unpack_name(data, offset, known)
    qtype, qclass, ttl, length = RECORD_TAIL.unpack_from(data, offset)
    start = offset + RECORD_TAIL.size
    end = start + length
    if end > len(data):
        raise MalformedMessage(f'the record whose data end at octet {end} is cut off')
    rdata = data[start:end]
    if qtype == CNAME:
        rdata, name_end = unpack_name(data, start, known)
        if name_end != end:
            raise MalformedMessage(f'the name at octet {start} ends at {name_end}, not at {end}')
    return ResourceRecord(name, qtype, qclass, ttl, rdata), end


# --- Questions and answers ------------------------------------------------------------------------

ADDRESS_RECORDS = {  # type -> layout of a record owned by a pointer to the question, start, class
    qtype: (
        struct.Struct(f'!6sIH{octets}s'),
        QUESTION_POINTER + QUESTION_TAIL.pack(qtype, IN),
        address_class,
    )
    for qtype, (octets, address_class) in ADDRESSES.items()
}
CASE_BITS = bytes(0x20 if octet < 128 and chr(octet).isalpha() else 0 for octet in range(256))


class Question:
    """A name in lower case, and a record type.

    `wire` is the question in wire format (RFC 1035 §4.1.2), which the cache has as its key.
    """

    def __init__(self, fqdn: bytes, qtype: TYPES, packed: bytes = b'') -> None:
        self.fqdn = fqdn
        self.qtype = qtype
        self.wire = (packed or pack_name(fqdn)) + QUESTION_TAIL.pack(qtype, IN)

    def __str__(self) -> str:
        return describe(self.fqdn, [self.qtype])


class Answer(NamedTuple):
    """What a nameserver said of a question: its records, an alias to ask for, or that it has none.

    `expires_at` is when the first of the records that it is made from expires: the loop time at
    which the first query was about to be sent, plus the TTL.
    """

    records: tuple[Value, ...]
    expires_at: float
    aliases: tuple[bytes, ...] = ()  # one leads to the next; the last is the canonical name
    negative: type[DoesNotExist] | None = None
    reason: str = ''  # why the answer is negative, e.g. `192.0.2.1:53 answered NXDOMAIN`

    def joined_to(self, alias: Answer) -> Answer:
        """Returns this answer to an alias as one to the name that has the alias."""
        return self._replace(
            records=tuple(
                [
                    type(each)(each, min(each.expires_at, alias.expires_at))  # type: ignore[arg-type]
                    for each in self.records
                ]
            ),
            expires_at=min(self.expires_at, alias.expires_at),
            aliases=alias.aliases + self.aliases,
        )


class Failure(NamedTuple):
    """Why a query came to nothing. `what` is said of the nameserver: `timed out after 0.5 s`."""

    error: type[ResolverError]  # what to raise when this is the last failure
    what: str
    rcode: int = NOERROR
    cause: tuple[Any, ...] = ()  # type and arguments of the exception, if one is the cause


def mix_case(fqdn: bytes) -> bytes:
    """Returns a name with the case of each letter drawn at random (draft-vixie-dnsext-dns0x20).

    A reply has the question of its query, so a forger has to guess the case as well.
    """
    # All letters at once, as one integer of which random bits are flipped.
    flips = int.from_bytes(fqdn.translate(CASE_BITS)) & int.from_bytes(os.urandom(len(fqdn)))
    return (int.from_bytes(fqdn) ^ flips).to_bytes(len(fqdn))


def spell(question: Question, transform_fqdn: Callable[[bytes], bytes]) -> bytes:
    """Returns a question in wire format, in the case that a function gives to its letters."""
    fqdn = transform_fqdn(question.fqdn)
    if not isinstance(fqdn, bytes) or fqdn.lower() != question.fqdn:
        raise ResolverError(
            f'{question}: transform_fqdn may change only the case of letters, '
            f'but turned {question.fqdn!r} into {fqdn!r}'
        )
    return pack_name(fqdn) + question.wire[-QUESTION_TAIL.size :]


def make_query(question: Question, spelled: bytes = b'') -> bytes:
    """Returns a query with a random ID, and in random case unless it is spelled already."""
    # In the wire format of a question only letters have the value of a letter.
    return os.urandom(2) + QUERY_HEADER + (spelled or mix_case(question.wire))


def is_reply(query: bytes, data: bytes) -> bool:
    """Tells whether a datagram is a reply to a query (RFC 5452 §9.1).

    ID, QR and opcode match, and there is one question, equal byte for byte. Or there is none and an
    error rcode: some nameservers send a bare header for REFUSED, SERVFAIL or FORMERR.
    """
    if len(data) < HEADER.size or data[:2] != query[:2] or data[2] & 0b11111000 != 0b10000000:
        return False
    if data[4:6] == query[4:6]:
        return data.startswith(query[HEADER.size :], HEADER.size)
    return data[4:6] == b'\0\0' and data[3] & 0b1111 not in (NOERROR, NXDOMAIN)


def read_reply(
    question: Question, query: bytes, data: bytes, asked_at: float
) -> Answer | Failure | None:
    """Decides everything about one datagram; `asked_at` is in seconds of the loop's clock.

    None: it is not a reply to the query, the wait goes on. Failure: this nameserver is out or,
    where the error is not temporary, the data are at fault for every nameserver.
    """
    if not is_reply(query, data):
        return None
    _, flags, _, count, _, _ = HEADER.unpack_from(data)
    rcode = flags & 0b1111
    if (
        rcode == NOERROR
        and (layout := ADDRESS_RECORDS.get(question.qtype))
        and (answer := read_addresses(layout, data, len(query), count, asked_at))
    ):
        return answer
    try:
        message = parse(data)
        if rcode not in (NOERROR, NXDOMAIN):
            return Failure(ResponseCodeError, f'answered {RCODES[rcode]}', rcode)
        chain, expires_at, rrset = follow_aliases(question, message.an, asked_at)
        if fault := find_fault(chain):
            return Failure(AliasChainTooLong, f'gave {fault}')
        aliases = tuple(chain[1:])
        if rrset and rcode == NOERROR:
            return to_answer(rrset, expires_at, aliases, asked_at)
    except MalformedMessage:
        return None
    soa = next((record for record in message.ns if record[1:3] == (SOA, IN)), None)
    if rcode == NOERROR and aliases and (flags & TC or not soa):
        return Answer((), expires_at, aliases)
    return read_negative(flags, soa, expires_at, aliases, asked_at)


def read_addresses(
    address_record: tuple[struct.Struct, bytes, type[Address]],
    data: bytes,
    offset: int,
    count: int,
    asked_at: float,
) -> Answer | None:
    """Reads the common answer section: only addresses, each owned by a pointer to the question.

    Returns None for any other. Nearly all replies are so, and `parse` takes five times as long.
    """
    layout, expected_start, address_class = address_record
    records = data[offset : offset + count * layout.size]
    if not count or len(records) < count * layout.size:
        return None
    expires_at, addresses = math.inf, []
    for start, ttl, length, address in layout.iter_unpack(records):
        if start != expected_start or length != len(address):
            return None
        addresses.append(address_class(address, to_expires_at(ttl, asked_at)))
        expires_at = min(expires_at, addresses[-1].expires_at)
    return Answer(tuple(addresses), expires_at)


def follow_aliases(
    question: Question, records: Iterable[ResourceRecord], asked_at: float
) -> tuple[list[bytes], float, list[ResourceRecord]]:
    """Follows the aliases from the name of a question to the RRset of its type (RFC 1034 §3.6.2).

    Returns the names on this way, when the first alias expires, and the RRset, if there is one.
    """
    rrsets: dict[tuple[bytes, int], list[ResourceRecord]] = {}
    for record in records:
        if record.qclass == IN:
            rrsets.setdefault((record.name.lower(), record.qtype), []).append(record)
    chain = [question.fqdn]
    expires_at = math.inf
    while (
        (rrset := rrsets.get((chain[-1], question.qtype))) is None
        and (links := rrsets.get((chain[-1], CNAME)))
        and not find_fault(chain)
    ):
        expires_at = min(expires_at, to_expires_at(links[0].ttl, asked_at))
        chain.append(links[0].rdata.lower())
    return chain, expires_at, rrset or []


def find_fault(chain: Sequence[bytes]) -> str:
    """Says what is wrong with a chain of aliases; '' where nothing is."""
    is_loop = len(set(chain)) < len(chain)
    if not is_loop and len(chain) - 1 <= MAX_ALIASES:
        return ''
    what = 'a loop of' if is_loop else f'more than {MAX_ALIASES}'
    return f'{what} aliases: {" → ".join(map(name_to_text, chain))}'


def to_expires_at(ttl: int, asked_at: float) -> float:
    return asked_at + (min(ttl, MAX_TTL) if ttl < 1 << 31 else 0)  # top bit: 0, RFC 2181 §8


def to_answer(
    rrset: list[ResourceRecord], expires_at: float, aliases: tuple[bytes, ...], asked_at: float
) -> Answer | Failure:
    """Returns the answer with the records of an RRset. Raises MalformedMessage."""
    values: list[Value] = []
    for name, qtype, _, ttl, rdata in rrset:
        record_expires_at = min(expires_at, to_expires_at(ttl, asked_at))
        if qtype in (TXT, CNAME):  # by compression, the case of a name may be that of our query
            octets = join_strings(rdata) if qtype == TXT else rdata.lower()
            values.append(BytesExpiresAt(octets, record_expires_at))
        else:
            length, address_class = ADDRESSES[qtype]
            if len(rdata) != length:
                return Failure(
                    BadAddress,
                    f'gave an {TYPES(qtype).name} record of {len(rdata)} octets, not {length}, '
                    f'for {name_to_text(name.lower())}',
                )
            values.append(address_class(rdata, record_expires_at))
    return Answer(tuple(values), min([value.expires_at for value in values]), aliases)


def join_strings(rdata: bytes) -> bytes:
    """Joins the character-strings of a TXT record, each a length and octets (RFC 1035 §3.3.14)."""
    strings = []
    offset = 0
    while offset < len(rdata):
        start, offset = offset + 1, offset + 1 + rdata[offset]
        strings.append(rdata[start:offset])
    if offset > len(rdata):
        raise MalformedMessage(f'a character-string of TXT ends at {offset} of {len(rdata)} octets')
    return b''.join(strings)


def read_negative(
    flags: int,
    soa: ResourceRecord | None,
    expires_at: float,
    aliases: tuple[bytes, ...],
    asked_at: float,
) -> Answer | Failure:
    """Returns the negative answer of a reply without records (RFC 2308 §5).

    Failure: the reply is truncated or lame.
    """
    outcome: tuple[type[DoesNotExist], str] = NameDoesNotExist, 'answered NXDOMAIN'
    if flags & 0b1111 == NOERROR:
        if flags & TC:
            return Failure(TemporaryResolverError, 'gave a truncated reply that holds no record')
        if not soa and not flags & (AA | RA):
            return Failure(TemporaryResolverError, 'is neither authoritative nor recursive (lame)')
        outcome = NoRecords, 'answered with no such record'
    ttls = (
        (soa.ttl, int.from_bytes(soa.rdata[-4:]), MAX_NEGATIVE_TTL)  # the second: MINIMUM
        if soa and not flags & TC
        else (0,)  # not cached
    )
    expires_at = min(expires_at, *[to_expires_at(ttl, asked_at) for ttl in ttls])
    return Answer((), expires_at, aliases, *outcome)


def answer_special(fqdn: bytes, qtype: int, now: float) -> Answer:
    """Returns the answer for a name under SPECIAL_DOMAINS, for which nothing is sent."""
    if top_level(fqdn) != b'localhost':
        return Answer(
            (), now, (), NameDoesNotExist, 'the DNS has no such names (RFC 7686, RFC 6761)'
        )
    if qtype not in LOOPBACK:
        return Answer(
            (), now, (), NoRecords, 'names under localhost have only addresses (RFC 6761)'
        )
    return Answer((ADDRESSES[qtype][1](LOOPBACK[qtype], now),), now)


# --- The system's files ---------------------------------------------------------------------------

HOSTS, RESOLV_CONF = '/etc/hosts', '/etc/resolv.conf'
SHORTAGE_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS)
# These are errors of this machine, not of the nameserver.
LOCAL_ERRNOS = (*SHORTAGE_ERRNOS, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC)


def is_shortage(error: Exception) -> bool:
    """Tells whether descriptors or buffers ran out."""
    return isinstance(error, OSError) and error.errno in SHORTAGE_ERRNOS


class FileShortage(Exception):
    """File descriptors ran out before the file was ever read."""


class Nameserver(NamedTuple):
    """Where a nameserver is; `host` is an IP address, with its scope id if it has one."""

    family: int
    host: str
    port: int

    def __str__(self) -> str:
        host = f'[{self.host}]' if self.family == socket.AF_INET6 else self.host
        return f'{host}:{self.port}'

    def address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """Returns what `connect` takes, which ignores a scope id in the text. Raises OSError."""
        host, _, scope_id = self.host.partition('%')
        return (host, self.port, 0, scope_index(scope_id)) if scope_id else (host, self.port)


def scope_index(scope_id: str) -> int:
    """Returns the number of the interface of a scope id. Raises OSError where there is none."""
    return (
        int(scope_id) if re.fullmatch('[0-9]{1,9}', scope_id) else socket.if_nametoindex(scope_id)
    )


@functools.lru_cache(maxsize=1000)
def to_nameserver(ip: object, port: int) -> Nameserver:
    """Raises ValueError where the arguments are not an IP address, or its text, and a port."""
    address = ipaddress.ip_address(str(ip))
    if not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError(f'{port!r} is not a valid port')
    scope_id = str(address).partition('%')[2]
    if not re.fullmatch('[0-9]{1,9}|(?![0-9]+$)[!-~]+', scope_id or '0'):
        raise ValueError(f'{scope_id!r} is not a valid scope id')
    return Nameserver(
        socket.AF_INET if address.version == 4 else socket.AF_INET6, str(address), port
    )


class ResolvConf(NamedTuple):
    """What resolv.conf(5) says; `timeout` is in seconds."""

    nameservers: tuple[Nameserver, ...] = ()
    search: tuple[bytes, ...] = ()
    ndots: int = 1
    timeout: float = 0.5
    attempts: int = 5
    rotate: bool = False
    reload: bool = True
    randomize_case: bool = True


NO_SEARCH_LIST = ResolvConf()  # names are taken as they are


def without_bom(line: str) -> str:
    return line.removeprefix('\ufeff').removeprefix('ï»¿')  # UTF-8's, as it is or read as Latin-1


def keep_valid(convert: Callable[..., T], words: Iterable[str], *args: Any) -> list[T]:
    """Converts the words of a file, leaving out those for which this raises ValueError."""
    found = []
    for word in words:
        with contextlib.suppress(ValueError):
            found.append(convert(word, *args))
    return found


def parse_resolv_conf(lines: Iterable[str]) -> ResolvConf:
    """Returns the contents of a resolv.conf, skipping what makes no sense in it."""
    nameservers: list[Nameserver] = []
    found: dict[str, Any] = {}
    for line in lines:
        keyword, *words = re.split('[#;]', without_bom(line), maxsplit=1)[0].split() or ['']
        if keyword == 'nameserver':
            nameservers += keep_valid(to_nameserver, words[:1], 53)
        elif keyword in ('search', 'domain'):
            domains = keep_valid(to_fqdn, words if keyword == 'search' else words[:1])
            if domains or words == ['.']:  # the root: no search list
                found['search'] = tuple(dict.fromkeys(domains))
        elif keyword == 'options':
            for word in words:
                found.update(parse_option(word))
    return ResolvConf(
        tuple(dict.fromkeys(nameservers or [to_nameserver('127.0.0.1', 53)])), **found
    )


FLAGS: dict[str, dict[str, Any]] = {
    'rotate': {'rotate': True},
    'no-reload': {'reload': False},
    'randomize-case:0': {'randomize_case': False},
}
BOUNDS = {'ndots': (0, 15), 'timeout': (1, 30), 'attempts': (1, 5)}  # as in glibc


def parse_option(word: str) -> dict[str, Any]:
    name, _, value = word.partition(':')
    if name in BOUNDS and value.isascii() and value.isdigit():
        low, high = BOUNDS[name]
        # Nine digits are more than any bound; int() of very many raises ValueError.
        return {name: max(low, min(high, int(value.lstrip('0')[:9] or 0)))}
    return FLAGS.get(word, {})


def parse_hosts(lines: Iterable[str]) -> dict[bytes, list[str]]:
    """Returns the names of a hosts(5) file, each with the text of its addresses in file order."""
    hosts: dict[bytes, list[str]] = {}
    for line in lines:
        address, *names = without_bom(line).partition('#')[0].split() or ['']
        for fqdn in keep_valid(to_fqdn, names):
            hosts.setdefault(fqdn, []).append(address)
    return hosts


class SystemFile(Generic[T]):
    """The parsed contents of a file, read on first use, and again when the file has changed.

    `contents` comes from a version that was read as a whole. Only the first contents may be a torn
    read, of a file that another program was writing; then the next use reads it again. A file that
    cannot be read has no lines. Contents with a false `reload` are never read again.
    """

    def __init__(self, path: str, parse_lines: Callable[[Iterable[str]], T]) -> None:
        self.path = path
        self.parse_lines = parse_lines
        self.check_again_at = -math.inf
        self.version: tuple[int, ...] | None = None  # None: none was read as a whole
        self.contents: T | None = None

    def read(self, now: float) -> T:
        """Returns the contents at a time in seconds of a clock that is always the same.

        Raises FileShortage.
        """
        if now >= self.check_again_at:
            if getattr(self.contents, 'reload', True):
                self.update()
            self.check_again_at = now + (LOOK_AGAIN_AFTER if self.version is not None else 0)
        return self.contents  # type: ignore[return-value]

    def update(self) -> None:
        version = self.stat()
        if version == self.version:
            return
        try:
            lines = self.read_lines(version)
        except OSError as error:
            if is_shortage(error):
                if self.contents is None:
                    raise FileShortage(f'{self.path} cannot be read: {error.strerror}') from error
                return
            lines = []
        is_whole = self.stat() == version
        if is_whole or self.version is None:
            self.version, self.contents = version if is_whole else None, self.parse_lines(lines)

    def stat(self) -> tuple[int, ...]:
        with contextlib.suppress(OSError):
            found = os.stat(self.path)
            return *found[:7], found.st_mtime_ns, found.st_ctime_ns
        return ()

    def read_lines(self, version: tuple[int, ...]) -> list[str]:
        if version and not stat.S_ISREG(version[0]):
            return []  # to open a pipe could block
        with open(self.path, 'r') as file:  # noqa: UP015
            if hasattr(file, 'reconfigure'):
                file.reconfigure(errors='replace')
            return list(file)


class FailingNameservers:
    """The nameservers of resolv.conf that are asked last for a while, because they failed.

    `retry_at` holds a nameserver from its failure to its next reply in time. `replies` counts
    those replies of each: where it grew while a query was under way, a timeout of that query says
    something about the name, not about the nameserver.
    """

    def __init__(self) -> None:
        self.retry_at: dict[Nameserver, float] = {}
        self.replies: collections.Counter[Nameserver] = collections.Counter()

    def choose(self, nameservers: Sequence[Nameserver], now: float) -> Nameserver:
        """Returns the first nameserver that does not fail or whose retry time has come.

        Choosing one whose retry time has come postpones its next retry, so one query probes it.
        """
        if not self.retry_at:
            return nameservers[0]
        chosen = next(
            (each for each in nameservers if now >= self.retry_at.get(each, now)), nameservers[0]
        )
        if now >= self.retry_at.get(chosen, math.inf):
            self.retry_at[chosen] = now + FAILING_FOR
        return chosen

    def failed(self, nameserver: Nameserver, now: float) -> bool:
        """Remembers a failure, and tells whether it is the first one since the last reply."""
        is_first = nameserver not in self.retry_at
        self.retry_at[nameserver] = now + FAILING_FOR
        return is_first

    def replied(self, nameserver: Nameserver) -> bool:
        """Counts a reply, and tells whether the nameserver failed before."""
        self.replies[nameserver] += 1
        return self.retry_at.pop(nameserver, None) is not None


# --- Exchange -------------------------------------------------------------------------------------
#
# Strategy: a LookUp puts its questions to a set of nameservers, asked in parallel with one timeout,
# then to the next set. It awaits one future for each set, whatever the number of queries. Each
# Query has a socket of its own. Sockets opens and closes them for all look-ups of a loop, and keeps
# to the limit. Poller watches them: the loop sees one file descriptor for all.
#
# States of a query:
#
#     queued ──▶ open ──▶ active ──▶ spare ──▶ closed
#
#     queued  no socket; its look-up waits in Sockets.beginning or .under_way
#     open    not sent, in Sockets.outbox: until the end of the step, or longer in a shortage
#     active  sent; its set is under way, and has a deadline
#     spare   its set is over; open for a late answer until another query needs a socket
#
# Queries of the first three states are in `in_set` of their look-up. One with an answer or a
# failure is closed at once, and all are when their look-up ends.
#
# A look-up waits in one of three places. At the gate it has no queries, and its hook was not called
# yet. In `beginning` it has queries for its first set. In `under_way` it had begun when it was
# queued: one of its sockets was opened before, its caller waited for another name, or it took over
# from a look-up that had begun.
#
# How each thing ends: a query is dropped, which closes its socket. A set is ended, which makes its
# queries spare. A flight is finished with an outcome, or abandoned without one. A look-up settles
# its questions one by one, and is over when the rest does not matter.
#
# At the end of each step of the loop, unless a callback that will make it so is scheduled already:
#
#   - No more sockets are open than the limit.
#   - A look-up is queued only while too few sockets can be opened, spare ones counted as free:
#     fewer than its whole set needs or, once it has begun, none.
#   - A look-up waits at the gate only while those that are queued take all the room.
#   - A query that is active has a deadline that will end its set.
#   - While a hook is awaited, the look-up has no queries but spare ones.
#   - A question in flight has one leader, and each of its followers waits for its outcome.


new_epoll: Callable[[], Any] | None = getattr(select, 'epoll', None)
# One-shot: a closed socket that a forked child still holds stays in epoll, which would report it
# for ever.
READABLE_ONCE: int = getattr(select, 'EPOLLIN', 0) | getattr(select, 'EPOLLONESHOT', 0)


class Poller:
    """Calls `read` of a query when its socket is readable.

    The loop knows of one epoll object, from the first `watch` to the first `check` that finds
    nothing watched. The checks are one timeout apart: to stop after each look-up would take more
    time. Where the system has no epoll, the loop watches each socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.epoll: Any = None
        self.queries: dict[int, Query] = {}  # by the file descriptor of their open socket
        self.interval = MIN_INTERVAL  # of the checks: the timeout of the last query

    def watch(self, fd: int, query: Query) -> None:
        """Calls `query.read` once, when the socket is readable.

        Raises OSError or NotImplementedError.
        """
        if new_epoll is None:
            self.loop.add_reader(fd, query.read)
        else:
            self.interval = max(query.look_up.timeout, MIN_INTERVAL)
            epoll = self.epoll or new_epoll()  # a new one is closed where a line raises
            epoll.register(fd, READABLE_ONCE)
            if self.epoll is None:
                self.loop.add_reader(epoll.fileno(), self.dispatch)
                self.loop.call_later(self.interval, self.check)
                self.epoll = epoll
        self.queries[fd] = query

    def rearm(self, fd: int) -> None:
        """Re-arms the socket for one more `read`."""
        if self.epoll is not None:
            self.epoll.modify(fd, READABLE_ONCE)

    def forget(self, fd: int) -> None:
        """Stops watching a socket that is about to be closed, which removes it from epoll."""
        del self.queries[fd]
        if new_epoll is None and not self.loop.is_closed():
            self.loop.remove_reader(fd)

    def check(self) -> None:
        """Takes epoll out of the loop if it watches nothing, else checks again later."""
        if self.queries:
            self.loop.call_later(self.interval, self.check)
        else:
            self.loop.remove_reader(self.epoll.fileno())
            self.epoll = None  # which closes it

    def dispatch(self) -> None:
        for fd, _ in self.epoll.poll(0):
            if query := self.queries.get(fd):
                query.read()


SOCKET_TYPE: int = socket.SOCK_DGRAM | getattr(socket, 'SOCK_NONBLOCK', 0)


class Socket(socket.SocketType):
    """A socket that is closed without a warning when nothing refers to it any more.

    That happens where it cannot be connected, and to look-ups left over when a loop is closed.
    """

    __slots__ = ()
    __del__ = socket.SocketType.close


class Deadline:
    """One timer for the sets that were sent together with the same timeout."""

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self.look_ups: dict[LookUp, None] = {}
        self.timer = loop.call_at(when, self.expire)

    def expire(self) -> None:
        """Ends the sets, after reading what has arrived: a late timer makes no reply a timeout."""
        for look_up in list(self.look_ups):
            look_up.read_all()
            look_up.wake(is_time_up=True)

    def remove(self, look_up: LookUp) -> None:
        del self.look_ups[look_up]
        if not self.look_ups:
            self.timer.cancel()


class Query:
    """A query about one question to one nameserver, over a socket of its own once it is open."""

    def __init__(self, look_up: LookUp, flight: Flight, nameserver: Nameserver) -> None:
        self.look_up = look_up
        self.flight = flight
        self.nameserver = nameserver
        # A hook is called here, where what it raises ends this look-up alone. `mix_case` is left to
        # `make_query`.
        transform_fqdn = look_up.transform_fqdn
        self.spelled = (
            spell(flight.question, transform_fqdn) if transform_fqdn is not mix_case else b''
        )
        self.sock: Socket | None = None
        self.is_sent = False
        self.replies = 0  # that the nameserver had sent when this was sent

    def open(self, poller: Poller) -> None:
        """Makes the query and opens its socket. Raises OSError or NotImplementedError."""
        self.wire = make_query(self.flight.question, self.spelled)
        sock = Socket(self.nameserver.family, SOCKET_TYPE)  # which is closed where a line raises
        if sock.getblocking():
            sock.setblocking(False)
        sock.connect(self.nameserver.address())
        self.fd = sock.fileno()  # kept, since a socket that was collected has none
        poller.watch(self.fd, self)
        self.sock = sock

    def read(self) -> None:
        """Reads what has arrived, which counts, however late it is read."""
        if self.sock is None:
            return
        for _ in range(MAX_READS):
            try:
                data = self.sock.recv(MAX_DATAGRAM)
            except BlockingIOError:  # a datagram with a wrong checksum, or it was read before
                break
            except OSError as error:
                self.look_up.query_failed(self, socket_failure(error))
                return
            if found := read_reply(self.flight.question, self.wire, data, self.flight.asked_at):
                self.look_up.take(self, found)  # which closes this query
                return
            if (
                data[:2] == self.wire[:2]
                and not is_reply(self.wire, data)
                and is_reply(self.wire.lower(), data.lower())
            ):
                self.flight.add_failure(self.nameserver, WRONG_CASE)
        self.look_up.sockets.poller.rearm(self.fd)


def socket_failure(error: OSError | NotImplementedError) -> Failure:
    cause = type(error), *error.args
    if isinstance(error, NotImplementedError):
        return Failure(
            ResolverError,
            'cannot be asked, since the event loop has no add_reader: run asyncio on a '
            'SelectorEventLoop or on uvloop',
            cause=cause,
        )
    if isinstance(error, ConnectionRefusedError):
        return Failure(NameserverRefused, 'refused: nothing listens there', cause=cause)
    return Failure(
        NameserverUnreachable, f'cannot be asked: {error.strerror or error}', cause=cause
    )


# It is told beside the other failures, and never decides which error is raised.
WRONG_CASE = Failure(
    ResolverTimeout,
    'gave a reply that was ignored, since it does not keep the case of the letters in the query: '
    'if it never does, turn the mixing of the case off, by "options randomize-case:0" in '
    'resolv.conf or, with get_nameservers, by Resolver(transform_fqdn=lambda fqdn: fqdn)',
)
SERIAL = itertools.count(1)  # numbers all other failures, to tell which was the last


class Failures(NamedTuple):
    """Why a question has no answer: how often each nameserver failed in which way."""

    # How often each happened, and its number in SERIAL when it last did.
    times: dict[tuple[Nameserver, Failure], tuple[int, ...]]
    aliases: tuple[bytes, ...] = ()  # that led to the question

    def all_refused(self) -> bool:
        return (
            set()
            < {failure.rcode for _, failure in self.times if failure is not WRONG_CASE}
            <= {SERVFAIL, REFUSED}
        )

    def joined_to(self, alias: Answer) -> Failures:
        """Returns the failures of an alias as those of the name that has the alias."""
        return Failures(self.times, alias.aliases + self.aliases)

    def merged_with(self, other: Failures) -> Failures:
        """Returns the failures of two record types of one name as one."""
        times = {
            key: tuple(map(max, self.times.get(key, (0, 0)), other.times.get(key, (0, 0))))
            for key in self.times | other.times
        }
        return Failures(times, self.aliases or other.aliases)

    def error(self, fqdn: bytes, qtypes: Iterable[int]) -> ResolverError:
        """Makes the error to raise."""
        message = describe(fqdn, qtypes, self.aliases)
        if not self.times:
            return TemporaryResolverError(
                f'{message}: no nameserver was asked, since get_nameservers yielded none, or since '
                'no socket or buffer was free'
            )
        found = [
            f'{nameserver} {failure.what}' + (f' ({count} times)' if count > 1 else '')
            for (nameserver, failure), (count, _) in self.times.items()
        ]
        _, last = max(self.times, key=lambda key: self.times[key][1])
        error = last.error(f'{message}: {"; ".join(found)}')
        if isinstance(error, ResponseCodeError):
            error.rcode = last.rcode
        if last.cause:
            kind, *arguments = last.cause
            error.__cause__ = cause = kind(*arguments)
            error.errno = getattr(cause, 'errno', None)  # type: ignore[attr-defined]
        return error


class Raised(NamedTuple):
    """An exception of a hook, or of a logging handler, with the frames to show of it."""

    error: Exception
    traceback: TracebackType | None


Outcome = Answer | Failures | Raised


def is_decisive(outcome: Outcome) -> bool:
    """Tells whether the outcome for one record type is the outcome for the name."""
    if isinstance(outcome, Answer):
        return outcome.negative is NameDoesNotExist
    return isinstance(outcome, Raised) or not all(
        issubclass(failure.error, TemporaryResolverError) for _, failure in outcome.times
    )


def is_positive(outcome: Outcome) -> bool:
    return isinstance(outcome, Answer) and bool(outcome.records)


def is_alias(outcome: Outcome) -> bool:
    """Tells whether the last of the aliases of an answer is to be asked for."""
    return isinstance(outcome, Answer) and not outcome.records and outcome.negative is None


class Sockets:
    """Opens a socket for each query, never more than the limit, and closes spare ones for others.

    The limit is `max_sockets`, or fewer while the system refuses more: then it is what was open at
    that time and grows with each socket that is closed, until none is open or `max_sockets` is
    reached again.
    """

    def __init__(self, poller: Poller, max_sockets: int) -> None:
        self.poller = poller
        self.max_sockets = self.limit = max_sockets
        # To take the first of a plain dict again and again would be quadratic.
        self.gate: collections.OrderedDict[LookUp, None] = collections.OrderedDict()
        self.under_way: collections.OrderedDict[LookUp, None] = collections.OrderedDict()
        self.beginning: collections.OrderedDict[LookUp, None] = collections.OrderedDict()
        self.outbox: list[Query] = []  # open, and not sent yet
        self.spare: collections.OrderedDict[Query, None] = collections.OrderedDict()
        self.is_flush_due = False

    def available(self) -> int:
        """Returns how many sockets could be opened now, in place of spare ones where needed."""
        return self.limit - len(self.poller.queries) + len(self.spare)

    async def pass_gate(self, look_up: LookUp) -> None:
        """Waits until there is room for another look-up, first come, first served.

        A look-up stays at the gate until it runs, so that none overtakes it. It reserves nothing.
        """
        self.gate[look_up] = None
        try:
            await look_up.sleep()  # which also ends if the look-up is over
        finally:
            del self.gate[look_up]
            self.flush_soon()  # which lets the next one pass, if there is still room

    def enqueue(self, look_up: LookUp) -> None:
        """Queues a look-up, whose queries are sent at the end of this step of the loop.

        Sent together they are cheaper, since a nameserver on this machine is woken only once. With
        nothing else under way, they are sent at once.
        """
        (self.under_way if look_up.has_begun else self.beginning)[look_up] = None
        (self.flush_soon if self.poller.queries else self.flush)()

    def room(self) -> int:
        """Returns how many more look-ups may begin, each counted as one socket."""
        return self.available() - len(self.under_way) - len(self.beginning)

    def dequeue(self, look_up: LookUp) -> None:
        self.under_way.pop(look_up, None)
        self.beginning.pop(look_up, None)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Schedules `flush` for the end of this step, if any look-up waits for it."""
        if (
            (self.under_way or self.beginning or self.gate or self.outbox)
            and not self.is_flush_due
            and not self.poller.loop.is_closed()
        ):
            self.is_flush_due = True
            self.poller.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Sends what is queued, as far as there is room, and then lets look-ups pass the gate."""
        self.is_flush_due = False
        while queue := self.under_way or self.beginning:
            look_up = next(iter(queue))
            queued = [query for query in look_up.in_set if query.sock is None]
            # To begin, a look-up waits for room for its whole set, since its time has not started.
            # Once it has begun, it takes the sockets that it can get.
            needed = 1 if look_up.has_begun else min(len(queued), self.limit)
            # `all` stops at the first query for which there is no room.
            if self.available() < needed or not all(map(self.open, queued)):
                break
            del queue[look_up]
        self.send()
        for look_up in itertools.islice(self.gate, max(0, self.room())):
            look_up.wake()

    def open(self, query: Query) -> bool:
        """Opens the socket of a query, or fails it; False: there is no room, it stays queued."""
        while query in query.look_up.in_set:  # until it failed, or a spare socket had its answer
            if len(self.poller.queries) < self.limit:
                try:
                    query.open(self.poller)
                    query.look_up.has_begun = True
                    self.outbox.append(query)
                    return True
                except (OSError, NotImplementedError) as error:
                    if is_shortage(error) and self.poller.queries:
                        # Now at the limit: it opens in place of a spare socket, or not at all.
                        self.limit = len(self.poller.queries)
                    else:
                        query.look_up.query_failed(query, socket_failure(error))
            elif self.spare:
                oldest = next(iter(self.spare))
                oldest.read()
                oldest.look_up.drop(oldest)
            else:
                return False
        return True

    def send(self) -> None:
        """Sends what is open. In a shortage of buffers the rest waits until a socket is closed."""
        now = self.poller.loop.time()
        deadlines: dict[float, Deadline] = {}  # of the sets that are sent together, by timeout
        # One that was closed meanwhile is left out: its look-up has an answer, or is over.
        outbox, self.outbox = [query for query in self.outbox if query.sock is not None], []
        for i, query in enumerate(outbox):
            look_up = query.look_up
            if look_up.deadline is None:  # the time of the set starts
                timeout = look_up.timeout
                if timeout not in deadlines:
                    deadlines[timeout] = Deadline(self.poller.loop, now + timeout)
                look_up.deadline = deadlines[timeout]
                look_up.deadline.look_ups[look_up] = None
            query.flight.asked_at = min(query.flight.asked_at, now)
            try:
                query.sock.send(query.wire)  # type: ignore[union-attr]
            except OSError as error:
                if is_shortage(error) and len(self.poller.queries) > len(outbox) - i:
                    self.outbox = outbox[i:]
                    return
                look_up.query_failed(query, socket_failure(error))
            else:
                query.is_sent = True
                query.replies = look_up.failing.replies[query.nameserver] if look_up.failing else 0
                if logger.isEnabledFor(logging.DEBUG):
                    look_up.log(
                        logging.DEBUG, '%s: asked %s', query.flight.question, query.nameserver
                    )

    def close(self, query: Query, sock: Socket) -> None:
        self.spare.pop(query, None)
        self.poller.forget(query.fd)
        sock.close()
        query.sock = None
        self.limit = (
            min(self.limit + 1, self.max_sockets) if self.poller.queries else self.max_sockets
        )


class Flight:
    """A question in flight: one look-up, the leader, asks it for itself and for its followers."""

    def __init__(self, question: Question, leader: LookUp, cache: Cache) -> None:
        self.question = question
        self.leader = leader
        self.cache = cache  # the Cache, below, that has it in flight and takes its outcome
        self.followers: dict[LookUp, None] = {}
        self.asked_at = math.inf  # when the first query was about to be sent
        self.failures: dict[tuple[Nameserver, Failure], tuple[int, ...]] = {}  # as in Failures

    def add_failure(self, nameserver: Nameserver, failure: Failure) -> None:
        count, _ = self.failures.get((nameserver, failure), (0, 0))
        if not count and len(self.failures) == MAX_FAILURES:
            self.failures.popitem()  # the newest, so that the first ones and the last are told
        self.failures[nameserver, failure] = (
            count + 1,
            0 if failure is WRONG_CASE else next(SERIAL),
        )

    def has_exhausted(self, nameserver: Nameserver) -> bool:
        """Tells whether a nameserver is asked no more: it sent too many error replies."""
        error_replies = [
            count
            for (asked, failure), (count, _) in self.failures.items()
            # An OSError is an error of a socket or a timeout: a TimeoutError is one, too.
            if asked == nameserver and not issubclass(failure.error, OSError)
        ]
        return sum(error_replies) >= MAX_ERROR_REPLIES


class LookUp:
    """What one caller waits for: the outcomes of one or two questions about a name.

    Each question is pending, in flight (led or followed), or has an outcome. It is pending at the
    beginning, and when its leader, which may be this one, has left. The look-up is over when each
    has an outcome, or when one outcome decides for both. It is also over when one question has
    records, and then a set ends that the other question was put to, in this set or before: as in
    RFC 8305 §3, more tries are not waited for.

    It puts the questions that it leads to sets of nameservers, one set after another. The queries
    in `in_set` are queued, open or active, all others in `queries` are spare.
    """

    is_over = False
    timeout = 0.0  # of the set under way, in seconds
    deadline: Deadline | None = None  # of the set under way, from its first send
    woken: asyncio.Future[bool] | None = None  # what this look-up awaits

    def __init__(
        self,
        sockets: Sockets,
        failing: FailingNameservers | None,
        transform_fqdn: Callable[[bytes], bytes],
        questions: Sequence[Question],
        has_records: bool,
        has_begun: bool,
    ) -> None:
        self.sockets = sockets
        self.failing = failing  # None: the nameservers are those of a hook
        self.transform_fqdn = transform_fqdn
        self.questions = questions
        self.has_records = has_records  # of one record type
        self.has_begun = has_begun  # it is queued in `under_way`, as said above, not in `beginning`
        self.pending = list(questions)
        self.led: dict[TYPES, Flight] = {}
        self.followed: dict[TYPES, Flight] = {}
        self.outcomes: dict[TYPES, Outcome] = {}
        self.queries: dict[Query, None] = {}  # that are not closed, the oldest first
        self.in_set: dict[Query, None] = {}

    def __str__(self) -> str:
        return describe(self.questions[0].fqdn, self.led)

    def settle(self, qtype: TYPES, outcome: Outcome) -> None:
        """Takes the outcome of the question of a type, unless it has one."""
        self.led.pop(qtype, None)
        self.followed.pop(qtype, None)
        self.outcomes.setdefault(qtype, outcome)
        self.is_over |= len(self.outcomes) == len(self.questions) or is_decisive(outcome)
        self.has_records |= is_positive(outcome)
        if self.is_over or not self.led:
            self.wake()

    def wake(self, is_time_up: bool = False) -> None:
        if self.woken is not None and not self.woken.done():
            self.woken.set_result(is_time_up)

    def sleep(self) -> asyncio.Future[bool]:
        """Returns what to await until `wake`; its result is whether the time of the set is up."""
        self.woken = self.sockets.poller.loop.create_future()
        return self.woken

    def is_asking(self) -> bool:
        """Tells whether there is a question to put to another set."""
        return bool(self.led) and not self.is_over

    async def ask_set(self, timeout: float, nameservers: Sequence[Nameserver]) -> None:
        """Asks a set, until each question has an outcome, all nameservers are out or time is up."""
        self.timeout = timeout
        is_time_up = False
        try:
            self.in_set = {
                Query(self, flight, nameserver): None
                for flight in self.led.values()
                for nameserver in nameservers
            }
            self.queries.update(self.in_set)
            self.sockets.enqueue(self)
            if self.in_set and not self.is_over:
                is_time_up = await self.sleep()
            else:  # so that a hook that yields such sets for ever does not stop the loop
                await asyncio.sleep(0)
        finally:
            self.end_set(is_time_up)
        # With records, a look-up waits for the other type no longer than for one set that asked it,
        # as `asked_at` tells.
        for flight in self.led.values():
            for look_up in (self, *flight.followers):
                if look_up.has_records and flight.asked_at < math.inf:
                    look_up.is_over = True
                    look_up.wake()

    def read_all(self) -> None:
        for query in list(self.queries):
            query.read()

    def end_set(self, is_time_up: bool) -> None:
        """Makes spare what was sent and is open, and drops the rest."""
        self.woken = None  # it is not done where the coroutine was closed, maybe with its loop
        if self.deadline is not None:
            self.deadline.remove(self)
            self.deadline = None
        if not all(query.is_sent for query in self.in_set):
            # There were too few sockets: the next set begins with the other type.
            self.led = dict(reversed(self.led.items()))
        for query in list(self.in_set):
            if query.is_sent:
                self.sockets.spare[query] = None
                if is_time_up:
                    self.record_failure(
                        query, Failure(ResolverTimeout, f'timed out after {self.timeout:g} s')
                    )
            else:
                self.drop(query)
        self.in_set.clear()
        self.sockets.dequeue(self)

    def take(self, query: Query, found: Answer | Failure) -> None:
        """Uses what a nameserver replied."""
        nameserver, flight = query.nameserver, query.flight
        if self.failing is not None and query in self.in_set and self.failing.replied(nameserver):
            self.log(
                logging.INFO, 'nameserver %s answered %s: it is back', nameserver, flight.question
            )
        if isinstance(found, Failure):
            self.query_failed(query, found)
            return
        if logger.isEnabledFor(logging.DEBUG):
            self.log(logging.DEBUG, '%s: %s gave %s', flight.question, nameserver, found)
        if found.negative:
            found = found._replace(reason=f'{nameserver} {found.reason}')
        # That a name does not exist is the answer for all its types.
        for each in list(self.led.values()) if found.negative is NameDoesNotExist else [flight]:
            self.finish_flight(each, found)

    def finish_flight(self, flight: Flight, outcome: Outcome) -> None:
        """Drops the queries about a question, and gives its outcome to all that wait for it."""
        for query in list(self.queries):
            if query.flight is flight:
                self.drop(query)
        flight.cache.finish(flight, outcome)

    def query_failed(self, query: Query, failure: Failure) -> None:
        """Closes a query that came to nothing."""
        self.drop(query)
        self.record_failure(query, failure)
        if not issubclass(failure.error, TemporaryResolverError):
            self.finish_flight(query.flight, Failures(query.flight.failures))

    def record_failure(self, query: Query, failure: Failure) -> None:
        nameserver, question = query.nameserver, query.flight.question
        query.flight.add_failure(nameserver, failure)
        if logger.isEnabledFor(logging.DEBUG):
            self.log(logging.DEBUG, '%s: %s %s', question, nameserver, failure.what)
        if self.failing is None:
            return
        # What is remembered says something of the nameserver, not of the name or of this machine.
        is_fault = (
            self.failing.replies[nameserver] == query.replies
            if failure.error is ResolverTimeout
            else issubclass(failure.error, OSError)
            and not any(argument in LOCAL_ERRNOS for argument in failure.cause)
        )
        if is_fault and self.failing.failed(nameserver, self.sockets.poller.loop.time()):
            self.log(
                logging.WARNING,
                'nameserver %s %s (%s): for %s s it is asked last',
                nameserver,
                failure.what,
                question,
                FAILING_FOR,
            )

    def log(self, level: int, text: str, *args: object) -> None:
        """Logs, so that what a handler raises ends this look-up, and no other one."""
        try:
            logger.log(level, text, *args)
        except Exception as error:
            # Of whichever question: it is raised for the look-up.
            self.outcomes[self.questions[0].qtype] = Raised(error, error.__traceback__)
            self.is_over = True
            self.wake()

    def drop(self, query: Query) -> None:
        """Closes a query, and wakes the look-up after the last of its set."""
        self.in_set.pop(query, None)
        self.queries.pop(query, None)
        if query.sock is not None:
            self.sockets.close(query, query.sock)
        self.sockets.flush_soon()
        if not self.in_set:
            self.wake()


# The look-ups above do without it: it serves code that reads replies by itself.
async def recvfrom(
    loop: asyncio.AbstractEventLoop, socks: Sequence[socket.socket], max_bytes: int
) -> tuple[bytes, Any]:
    """Returns the first datagram to arrive at one of several UDP sockets, and where it came from.

    The sockets are non-blocking. Raises OSError, of the first socket with an error. Cancelled, it
    leaves no reader behind, and no datagram is lost.
    """
    by_fd = {sock.fileno(): sock for sock in socks}
    while True:
        readable: asyncio.Queue[socket.socket] = asyncio.Queue()
        try:
            for fd, sock in by_fd.items():
                loop.add_reader(fd, readable.put_nowait, sock)
            first = await readable.get()
        finally:
            for fd in by_fd:
                loop.remove_reader(fd)
        # There is nothing to read if another reader was quicker, or the checksum was wrong.
        with contextlib.suppress(BlockingIOError):
            return first.recvfrom(max_bytes)


# --- Resolver -------------------------------------------------------------------------------------


class Cache:
    """The answers to questions until they expire, and the questions in flight.

    The leader of a question asks it in its own task, and its outcome goes to all followers. Each
    of them waits on a future of its own, so that cancelling one affects no other. If the leader
    leaves without an outcome, its followers enter the question anew: the first to run leads. One
    that leads another question is not woken for it, and enters it before its next set.

    A shortcut has the records of a name as it was given that were found in the cache alone. All are
    dropped with any answer, since only some of the answers that led to one are known.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, max_size: int) -> None:
        self.loop = loop
        self.max_size = max_size
        self.answers: collections.OrderedDict[bytes, Answer] = collections.OrderedDict()  # LRU
        # name and type(s) -> keys of answers that count as used, the records, and until when
        self.shortcuts: dict[Any, tuple[list[bytes], tuple[Value, ...], float]] = {}
        self.in_flight: dict[bytes, Flight] = {}

    def recall(self, name: str, qtype: Any, now: float) -> tuple[Value, ...]:
        """Returns the records of a shortcut, if there is one; their answers count as used."""
        try:
            used, records, until = self.shortcuts.get((name, qtype), ((), (), 0))
        except TypeError:
            return ()  # what has no hash is neither a name nor a type
        if now >= until:
            return ()
        for key in used:
            self.answers.move_to_end(key)
        return records

    def enter(self, look_up: LookUp) -> bool:
        """Answers the pending questions of a look-up, or has each followed or led.

        Returns whether the look-up has to wait.
        """
        while look_up.pending and not look_up.is_over:
            question = look_up.pending.pop(0)
            answer = self.answers.pop(question.wire, None)
            if answer and self.loop.time() < answer.expires_at:
                self.answers[question.wire] = answer  # the last to be dropped
                look_up.settle(question.qtype, answer)
            elif flight := self.in_flight.get(question.wire):
                flight.followers[look_up] = None
                look_up.followed[question.qtype] = flight
            else:
                flight = Flight(question, look_up, self)
                self.in_flight[question.wire] = look_up.led[question.qtype] = flight
        return not look_up.is_over

    def abandon(self, look_up: LookUp) -> None:
        """Abandons the flights that a look-up leads: their questions are to be entered anew."""
        while look_up.led:
            _, flight = look_up.led.popitem()
            del flight.cache.in_flight[flight.question.wire]
            look_up.pending.append(flight.question)
            for follower in flight.followers:
                del follower.followed[flight.question.qtype]
                follower.pending.append(flight.question)
                follower.has_begun |= look_up.has_begun  # so that its place in the queue is kept
                if not (follower.led or self.loop.is_closed()):
                    follower.wake()

    def finish(self, flight: Flight, outcome: Outcome) -> None:
        """Finishes a flight: caches an answer, and settles the question of all that wait for it."""
        key = flight.question.wire
        del self.in_flight[key]
        if isinstance(outcome, Answer) and self.loop.time() < outcome.expires_at:
            self.answers[key] = outcome
            if len(self.answers) > self.max_size:
                self.answers.popitem(last=False)
                self.shortcuts.clear()
        for look_up in (flight.leader, *flight.followers):
            look_up.settle(flight.question.qtype, outcome)


GetHost = Callable[[bytes, TYPES], Awaitable[Any]]
GetNameservers = Callable[[bytes], AsyncIterator[tuple[Any, ...]]]
TransformFqdn = Callable[[bytes], bytes]


class Resolve(Protocol):
    """The type of `resolve`, and of what may stand in its place."""

    def __call__(self, name: str, qtype: Any, /) -> Awaitable[tuple[Any, ...]]: ...


ASKABLE: dict[Any, tuple[TYPES, ...]] = {  # what `resolve` takes -> record types; 1 is TYPES.A
    **{qtype: (qtype,) for qtype in TYPES},
    **{
        families: tuple(dict.fromkeys(families))
        for count in (1, 2)
        for families in itertools.product((TYPES.A, TYPES.AAAA), repeat=count)
    },
}


def check_types(qtype: Any) -> tuple[TYPES, ...]:
    """Returns the record types that are asked for. Raises ValueError."""
    try:
        return ASKABLE[qtype]
    except (KeyError, TypeError):
        raise ValueError(
            f'{qtype!r} is not a supported record type: use '
            f'TYPES.{", TYPES.".join(TYPES.__members__)} or a tuple of A and AAAA'
        ) from None


def check_set(look_up: LookUp, given: Any) -> tuple[float, list[Nameserver]]:
    """Returns the timeout and the nameservers of a set from a hook. Raises ResolverError."""
    try:
        timeout, *nameservers = given
        if not 0 <= timeout < math.inf:
            raise ValueError(f'{timeout!r} is not a valid timeout')
        return float(timeout), [to_nameserver(*nameserver) for nameserver in nameservers]
    except (TypeError, ValueError, OverflowError) as error:
        raise ResolverError(
            f'{look_up}: get_nameservers yielded {given!r}, where (timeout, (ip, port), ...) is '
            f'needed, with the IP address of a nameserver and not its name: {error}'
        ) from error


def merge(one: Answer | Failures, other: Answer | Failures) -> Answer | Failures:
    """Returns the outcome for a name of the outcomes for two record types.

    That the name does not exist comes first, then bad data, then records, then other failures.
    """
    if isinstance(one, Answer) and isinstance(other, Answer):
        if is_decisive(one) or is_decisive(other):
            return one if is_decisive(one) else other
        # Where there are records, `negative` and `reason` do not matter.
        return Answer(one.records + other.records, min(one.expires_at, other.expires_at), *one[2:])
    if isinstance(one, Failures) and isinstance(other, Failures):
        return one.merged_with(other)
    answer, failures = (one, other) if isinstance(one, Answer) else (other, one)
    return (
        answer
        if is_decisive(answer) or (is_positive(answer) and not is_decisive(failures))
        else failures
    )


def does_not_exist(
    answered: dict[bytes, Answer], as_given: bytes, qtypes: Iterable[int]
) -> DoesNotExist:
    """Makes the error for a name whose candidates all have negative answers."""
    answer = answered[as_given]
    what = 'does not exist' if answer.negative is NameDoesNotExist else 'has no such record'
    others = ', '.join(name_to_text(fqdn) for fqdn in answered if fqdn != as_given)
    nor = f'; also tried, by the search list: {others}' if others else ''
    return answer.negative(  # type: ignore[misc]
        f'{describe(as_given, qtypes, answer.aliases)}: {what}: {answer.reason}{nor}'
    )


class LoopResolver:
    """The state of a Resolver in one event loop."""

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
        self.transform_fqdn = transform_fqdn
        self.timeout = timeout
        self.hosts = SystemFile(HOSTS, parse_hosts)
        self.resolv_conf = SystemFile(RESOLV_CONF, parse_resolv_conf)
        self.failing = FailingNameservers()
        self.rotation = itertools.count()
        self.sockets = Sockets(Poller(loop), max_sockets)
        self.cache = Cache(loop, max_cache_size)

    async def resolve(self, name: str, qtype: Any, now: float) -> tuple[Value, ...]:
        """Returns the records of a name for which there is no shortcut."""
        if not isinstance(name, str):
            raise TypeError(f'name must be a str, not {name!r}')
        qtypes = check_types(qtype)
        conf = self.resolv_conf.read(now) if self.get_nameservers is None else NO_SEARCH_LIST
        as_given, fqdns = candidates(name, conf.search, conf.ndots)
        if literal := to_literal(name, as_given):
            if literal.version in [VERSIONS.get(each) for each in qtypes]:
                return (literal,)
            raise NoRecords(
                f'{describe(as_given, qtypes)}: an IPv{literal.version} address has nothing else'
            )
        # The hosts file may have the name as given, which comes before what the search list makes.
        if fqdns[0] != as_given and (found := await self.ask_host(as_given, qtypes)):
            return sum([answer.records for answer in found.values()], ())
        asked: list[bytes] = []  # not empty once a name had to be waited for
        answered: dict[bytes, Answer] = {}
        failed: tuple[bytes, Failures] | None = None
        for fqdn in fqdns:
            outcome = await self.find(fqdn, qtypes, asked)
            if isinstance(outcome, Failures):
                failed = fqdn, outcome
                # A single label may be refused as such, which says nothing of the next candidate.
                if b'.' in fqdn or not outcome.all_refused():
                    break
            else:
                answered[fqdn] = outcome
                if outcome.records:
                    if self.get_host is None and not asked:
                        self.make_shortcut(name, qtype, qtypes, answered, outcome.records)
                    return outcome.records
        if failed:
            raise failed[1].error(failed[0], qtypes)
        raise does_not_exist(answered, as_given, qtypes)

    def make_shortcut(
        self,
        name: str,
        qtype: Any,
        qtypes: tuple[TYPES, ...],
        answered: dict[bytes, Answer],
        records: tuple[Value, ...],
    ) -> None:
        """Remembers records until an answer expires or a file on the way is to be checked again."""
        until = min([self.hosts.check_again_at, *[each.expires_at for each in answered.values()]])
        if self.get_nameservers is None:
            until = min(until, self.resolv_conf.check_again_at)
        if self.loop.time() < until:
            # An answer that expires earlier was not needed, and is soon gone.
            used = [
                question.wire
                for question in [Question(fqdn, each) for fqdn in answered for each in qtypes]
                if (answer := self.cache.answers.get(question.wire)) and answer.expires_at >= until
            ]
            if len(self.cache.shortcuts) >= self.cache.max_size:
                self.cache.shortcuts.clear()
            self.cache.shortcuts[name, qtype] = used, records, until

    async def find(
        self, fqdn: bytes, qtypes: Sequence[TYPES], asked: list[bytes]
    ) -> Answer | Failures:
        """Returns the outcome for a name, at the end of its aliases.

        Raises what a hook raised, also one that was called for another look-up.
        """
        outcomes = await self.look_up(fqdn, qtypes, False, asked)
        while (aliases := [qtype for qtype in outcomes if is_alias(outcomes[qtype])]) and not any(
            map(is_decisive, outcomes.values())
        ):
            # Nearly always both types have the same canonical name, and are asked together.
            canonical = outcomes[aliases[0]].aliases[-1]
            together = [qtype for qtype in aliases if outcomes[qtype].aliases[-1] == canonical]
            ends = await self.look_up(
                canonical, together, any(map(is_positive, outcomes.values())), asked
            )
            for qtype in together:
                alias: Any = outcomes.pop(qtype)
                if end := ends.get(qtype):
                    outcomes[qtype] = end.joined_to(alias)
                    if fault := find_fault([fqdn, *outcomes[qtype].aliases]):
                        raise AliasChainTooLong(
                            f'{describe(fqdn, [qtype])}: the nameservers gave {fault}'
                        )
        # In the order that the types are given in. One may be missing: if another decides for both,
        # or if there are records of the other type.
        return functools.reduce(merge, [outcomes[qtype] for qtype in qtypes if qtype in outcomes])

    async def look_up(
        self, fqdn: bytes, qtypes: Iterable[TYPES], has_records: bool, asked: list[bytes]
    ) -> dict[TYPES, Answer | Failures]:
        """Returns what is known of a name: in the hosts file, in the cache, or else by asking.

        What other look-ups ask already is waited for. `has_records`: there are some of the other
        type, by another name. `asked`: not empty once this caller had to wait for a name.
        """
        now = self.loop.time()
        if (self.get_host is not None or fqdn in self.hosts.read(now)) and (
            found := await self.ask_host(fqdn, qtypes)
        ):
            return {**found}
        if top_level(fqdn) in SPECIAL_DOMAINS:
            return {qtype: answer_special(fqdn, qtype, now) for qtype in qtypes}
        packed = pack_name(fqdn)
        questions = [Question(fqdn, qtype, packed) for qtype in qtypes]
        look_up = LookUp(
            self.sockets,
            self.failing if self.get_nameservers is None else None,
            self.transform_fqdn,
            questions,
            has_records,
            bool(asked),
        )
        try:
            while self.cache.enter(look_up):
                asked.append(fqdn)
                await (self.ask_sets(look_up) if look_up.led else look_up.sleep())
        finally:
            self.cache.abandon(look_up)
            for flight in look_up.followed.values():
                del flight.followers[look_up]
        for outcome in look_up.outcomes.values():
            if isinstance(outcome, Raised):
                try:
                    raise outcome.error.with_traceback(outcome.traceback)
                finally:  # the frames of the error are not to refer back to it
                    look_up.outcomes.clear()
                    del outcome
        return look_up.outcomes  # type: ignore[return-value]

    async def ask_sets(self, look_up: LookUp) -> None:
        """Puts the questions that a look-up leads to nameservers, one set after another."""
        sets: Any = None
        # Only these fail when there are no more sets. A question that is taken over on the way
        # missed some: if it has no answer at the end, it is pending again, and put to all sets.
        from_start = list(look_up.led.values())
        try:
            if not look_up.has_begun and (self.sockets.gate or self.sockets.room() <= 0):
                await self.sockets.pass_gate(look_up)
            if self.get_nameservers is None:
                await self.ask_nameservers_of_resolv_conf(look_up)
            elif not look_up.is_over:
                sets = self.get_nameservers(look_up.questions[0].fqdn)
                if not hasattr(sets, 'aclose'):
                    raise ResolverError(
                        f'{look_up}: get_nameservers gave {sets!r}: it has to be an async '
                        'generator (async def, with yield)'
                    )
                async for given in sets:
                    if self.cache.enter(look_up) and look_up.led:
                        await look_up.ask_set(*check_set(look_up, given))
                    if not look_up.is_asking():
                        break
            if look_up.is_asking():
                look_up.read_all()
                for flight in from_start:
                    if flight in look_up.led.values():
                        flight.cache.finish(flight, Failures(flight.failures))
        except Exception as error:
            for flight in list(look_up.led.values()):
                flight.cache.finish(flight, Raised(error, error.__traceback__))
        finally:
            # Before `aclose`, in which the hook may await something. This also lets go of what
            # refers back to the look-up.
            for query in list(look_up.queries):
                look_up.drop(query)
            self.cache.abandon(look_up)
            # Before CPython 3.13 a generator that is awaited cannot be closed, as is needed where
            # this coroutine is closed by `close()`.
            if hasattr(sets, 'aclose') and not getattr(sets, 'ag_running', False):
                await sets.aclose()

    async def ask_nameservers_of_resolv_conf(self, look_up: LookUp) -> None:
        """Asks one nameserver at a time. A generator of sets, as hooks are, would cost more."""
        conf = self.resolv_conf.read(self.loop.time())
        if look_up.transform_fqdn is mix_case and not conf.randomize_case:
            look_up.transform_fqdn = bytes  # which returns what it is given
        first = next(self.rotation) % len(conf.nameservers) if conf.rotate else 0
        nameservers = conf.nameservers[first:] + conf.nameservers[:first]
        for number in range(conf.attempts):
            unasked = [
                nameserver
                for nameserver in nameservers
                # None is exhausted before the first round.
                if not number
                or not any(flight.has_exhausted(nameserver) for flight in look_up.led.values())
            ]
            while unasked and self.cache.enter(look_up):
                nameserver = self.failing.choose(unasked, self.loop.time())
                unasked.remove(nameserver)
                await look_up.ask_set(self.timeout or conf.timeout, (nameserver,))
                if not look_up.is_asking():
                    return

    async def ask_host(self, fqdn: bytes, qtypes: Iterable[TYPES]) -> dict[TYPES, Answer]:
        """Returns what the hosts file or get_host has of a name, by record type."""
        found: dict[TYPES, Answer] = {}
        for qtype in qtypes:
            if self.get_host is None:
                words = dict.fromkeys(self.hosts.read(self.loop.time()).get(fqdn, ()))
                addresses = keep_valid(ipaddress.ip_address, words)
                given: Any = [ip for ip in addresses if ip.version == VERSIONS.get(qtype)]
            else:
                coroutine = self.get_host(fqdn, qtype)
                if not hasattr(coroutine, '__await__'):
                    raise ResolverError(
                        f'{describe(fqdn, [qtype])}: get_host gave {coroutine!r}: it has to be a '
                        'coroutine function (async def)'
                    )
                given = await coroutine
            now = self.loop.time()
            values = given if isinstance(given, (tuple, list)) else [given]
            try:
                records = tuple([to_value(value, now) for value in values if value is not None])
            except TypeError as error:  # of what a hook gave: a file has addresses alone
                raise ResolverError(
                    f'{describe(fqdn, [qtype])}: get_host gave {given!r}, where an ipaddress '
                    f'object, a tuple of them or None is needed: {error}'
                ) from error
            # A hook that does not look at the type gives the same for both.
            if records and records not in [answer.records for answer in found.values()]:
                found[qtype] = Answer(records, min([record.expires_at for record in records]))
        return found


def Resolver(  # noqa: N802
    get_host: GetHost | None = None,
    get_nameservers: GetNameservers | None = None,
    transform_fqdn: TransformFqdn = mix_case,
    *,
    timeout: float | None = None,
    max_sockets: int = 256,
    max_cache_size: int = 10_000,
) -> tuple[Resolve, Callable[[], None]]:
    """Returns two functions, `resolve` and `clear_cache`, with a cache of their own.

    May be called with no loop running.

    get_host: `async def get_host(fqdn: bytes, qtype: TYPES)` returns None, an `ipaddress` object or
        a tuple of them. It is called for each name before the cache and the nameservers; by default
        it is the hosts file. The name is in lower case, without final dot.
    get_nameservers: an async generator `get_nameservers(fqdn: bytes)` that yields sets
        `(timeout, (ip, port), ...)`: a timeout in seconds, and nameservers to ask in parallel. Each
        set is asked when the one before it gave no answer. By default the sets come from
        resolv.conf, with its options and search list. With a hook, names are taken as they are, and
        its order is kept. A late answer that comes while it awaits something is returned when it
        goes on.
    transform_fqdn: returns the name of a query with the case of its letters changed. By default the
        case is random, against forged replies; `lambda fqdn: fqdn` leaves it as it is.
    timeout: seconds for each try of a nameserver of resolv.conf, in place of its own (0.5).
    max_sockets: how many sockets, one for each query, are open at once in a loop. Further look-ups
        wait, first come, first served.
    max_cache_size: how many answers are cached; the least recently used goes first.

    Raises ValueError for a number that makes no sense, TypeError for a hook that is no function.
    """
    if not isinstance(max_sockets, int) or max_sockets < 1 or max_cache_size < 0:
        raise ValueError(
            'max_sockets must be a whole number of at least 1 and max_cache_size at least 0, '
            f'not {max_sockets!r} and {max_cache_size!r}'
        )
    if timeout is not None and get_nameservers is not None:
        raise ValueError('timeout is for resolv.conf: get_nameservers yields its own timeouts')
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f'timeout must be a number of seconds above 0, not {timeout!r}')
    # A function stands for a hook that is not given.
    for hook in (get_host or mix_case, get_nameservers or mix_case, transform_fqdn):
        if not callable(hook):
            raise TypeError(
                f'get_host, get_nameservers and transform_fqdn must be functions, not {hook!r}'
            )
    in_loop: dict[asyncio.AbstractEventLoop, LoopResolver] = {}

    def start(loop: asyncio.AbstractEventLoop) -> LoopResolver:
        for other in list(in_loop):  # a copy: other threads may have loops of their own
            if other.is_closed() and (resolver := in_loop.pop(other, None)):
                resolver.sockets.poller.epoll = None  # which closes it
        in_loop[loop] = resolver = LoopResolver(
            loop,
            get_host,
            get_nameservers,
            transform_fqdn,
            timeout,
            max_sockets,
            max_cache_size,
        )
        return resolver

    async def resolve(name: str, qtype: Any) -> tuple[Any, ...]:
        """Returns the records of a name, never an empty tuple.

        qtype: a member of TYPES, or a tuple of TYPES.A and TYPES.AAAA for the addresses of both
            families of one name, those of the first type first.

        For TYPES.A and TYPES.AAAA these are addresses, for TYPES.TXT and TYPES.CNAME bytes, each
        with `expires_at` in seconds of `loop.time()`.

        Raises DoesNotExist where there are none (RFC 2308), TemporaryResolverError where no
        nameserver gave an answer, InvalidName before anything is sent: all are ResolverError.
        Raises TypeError or ValueError for an argument that is no str or no type, and what a hook
        raises.
        """
        loop = asyncio.get_running_loop()
        resolver = in_loop.get(loop) or start(loop)
        now = loop.time()
        try:
            return resolver.cache.recall(name, qtype, now) or (
                await resolver.resolve(name, qtype, now)
            )
        except FileShortage as error:
            raise TemporaryResolverError(
                f'{describe(to_fqdn(name), check_types(qtype))}: {error}'
            ) from error.__cause__

    def clear_cache() -> None:
        """Empties the cache. A query in flight still answers those that wait for it already."""
        for resolver in list(in_loop.values()):
            resolver.cache = Cache(resolver.loop, max_cache_size)

    return resolve, clear_cache


# --- getaddrinfo ----------------------------------------------------------------------------------

FAMILIES: dict[int, tuple[TYPES, ...]] = {
    socket.AF_UNSPEC: (TYPES.AAAA, TYPES.A),
    socket.AF_INET6: (TYPES.AAAA,),
    socket.AF_INET: (TYPES.A,),
}
GAI_ERRORS: dict[type[ResolverError], int] = {  # the first that fits
    NoRecords: getattr(socket, 'EAI_NODATA', socket.EAI_NONAME),
    DoesNotExist: socket.EAI_NONAME,
    InvalidName: socket.EAI_NONAME,
    TemporaryResolverError: socket.EAI_AGAIN,
    ResolverError: socket.EAI_FAIL,
}


async def getaddrinfo(
    resolve: Resolve,
    host: bytes | str | None,
    port: bytes | str | int | None,
    *,
    family: int = 0,
    type: int = 0,  # noqa: A002
    proto: int = 0,
    flags: int = 0,
) -> list[tuple[Any, ...]]:
    """Returns what `loop.getaddrinfo` returns, with the names looked up by `resolve`.

    With `loop.getaddrinfo = functools.partial(getaddrinfo, resolve)`, all that connects on a loop
    of asyncio uses it. The C library does what needs no look-up: no host, IP addresses in any
    spelling, services, and the errors for a bad family, type, service or flag. It also differs:

    - AI_ADDRCONFIG: a family of which this machine has no address but loopback's is not asked for,
      unless it has none of either. The C library may ignore the flag for names of the hosts file.
    - AI_CANONNAME: the name is the one given, not the end of the search list or of aliases.
    - AI_V4MAPPED, AI_ALL and AI_IDN have no effect on names. A name beyond ASCII is always encoded.
    - IPv6 comes first if there is a route to its first address, else last; within a family the
      order is that of the reply. The C library sorts by all rules of RFC 6724 §6.
    - `localhost` has an address of each family that is asked for alone, also where the hosts file
      has none. Of the hosts file, an address with a scope id and a name that is given with a final
      dot are found too, and an address that stands there twice for a name is given once.
    - An IP address with a final dot is that address. No host raises a UnicodeError.

    Raises socket.gaierror, with the ResolverError as its cause: EAI_NONAME for a name that does not
    exist or cannot, EAI_NODATA for one without addresses, EAI_AGAIN for a temporary error, EAI_FAIL
    for a reply that is of no use. Raises TypeError for a host that is not str, bytes or None.
    """
    name = host.decode('utf-8', 'replace') if isinstance(host, bytes) else host
    is_asked = isinstance(name, str) and not flags & socket.AI_NUMERICHOST
    if not name or not is_asked or name[:1].isdigit() or ':' in name:
        try:
            return socket.getaddrinfo(
                name, port, family, type, proto, flags | socket.AI_NUMERICHOST
            )
        except (UnicodeError, socket.gaierror) as error:
            code = error.errno if isinstance(error, OSError) else socket.EAI_NONAME
            if not is_asked or code != socket.EAI_NONAME:
                raise socket.gaierror(
                    code, getattr(error, 'strerror', f'{name!r} is not an IP address')
                ) from error
    qtypes = FAMILIES.get(family, FAMILIES[socket.AF_UNSPEC])
    entries = {qtype: find_entries(qtype, port, family, type, proto, flags) for qtype in qtypes}
    now = int(asyncio.get_running_loop().time())
    if flags & socket.AI_ADDRCONFIG:
        configured = tuple(qtype for qtype in qtypes if is_configured(qtype, now))
        if family and not configured:
            raise socket.gaierror(socket.EAI_NONAME, f'{name}: this machine has no such addresses')
        qtypes = configured or qtypes
    try:
        found = await resolve(str(name), qtypes if len(qtypes) > 1 else qtypes[0])
    except ResolverError as error:
        raise socket.gaierror(
            next(code for known, code in GAI_ERRORS.items() if isinstance(error, known)),
            str(error),
        ) from error
    infos = [info for address in found for info in to_infos(address, entries)]
    if not infos:
        raise socket.gaierror(
            socket.EAI_NONAME, f'{name}: none of its addresses is of use in this family, here'
        )
    if len(qtypes) > 1 and (
        six := next((info[4] for info in infos if info[0] == socket.AF_INET6), None)
    ):
        last = socket.AF_INET if has_route(six[0], six[3], now) else socket.AF_INET6
        infos.sort(key=lambda info: info[0] == last)
    if flags & socket.AI_CANONNAME:
        infos[0] = (*infos[0][:3], name, infos[0][4])
    return infos


def to_infos(
    address: Any, entries: dict[TYPES, list[tuple[Any, ...]]]
) -> Iterable[tuple[Any, ...]]:
    """Yields what getaddrinfo has of an address.

    That is nothing for a scope id that this machine does not have, or for a family that was not
    asked for, which a get_host that ignores the type may give.
    """
    is_six = address.version == 6
    family = socket.AF_INET6 if is_six else socket.AF_INET
    with contextlib.suppress(OSError, ValueError):
        rest = (0, scope_index(address.scope_id or '0')) if is_six else ()
        text = socket.inet_ntop(family, address.packed)
        for kind, protocol, port in entries.get(TYPES.AAAA if is_six else TYPES.A, ()):
            yield family, kind, protocol, '', (text, port, *rest)


@functools.lru_cache(maxsize=1000)
def find_entries(
    qtype: TYPES, port: Any, family: int, kind: int, proto: int, flags: int
) -> list[tuple[Any, ...]]:
    """Returns socket type, protocol and port of what the C library has for each address.

    Raises socket.gaierror for a family that is not supported, and for what does not go together.
    """
    plain = flags & ~int(socket.AI_ADDRCONFIG | socket.AI_CANONNAME) | socket.AI_NUMERICHOST
    infos = socket.getaddrinfo(LOOPBACK[qtype], port, family, kind, proto, plain)
    return [(info[1], info[2], info[4][1]) for info in infos]


@functools.lru_cache(maxsize=2)
def is_configured(qtype: TYPES, _: int) -> bool:
    """Tells whether this machine has an address of a family besides loopback's.

    Here and below the last argument is the time in seconds, so that an answer is kept for one.
    """
    family = socket.AF_INET if qtype == A else socket.AF_INET6
    with contextlib.suppress(socket.gaierror):
        return bool(
            socket.getaddrinfo(
                LOOPBACK[qtype], None, family, flags=socket.AI_NUMERICHOST | socket.AI_ADDRCONFIG
            )
        )
    return False


@functools.lru_cache(maxsize=1000)
def has_route(address: str, scope: int, _: int) -> bool:
    """Tells whether there is a route to an address of IPv6. Nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.connect((address, 9, 0, scope))
        return True
    return False


# --- Command --------------------------------------------------------------------------------------


def main(args: Sequence[str] | None = None) -> int:
    """Does what the command is asked for, and returns its exit status."""
    options = parse_arguments(args)
    if hasattr(sys.stdout, 'reconfigure'):  # pragma: no branch
        sys.stdout.reconfigure(errors='backslashreplace')  # for names beyond its encoding
    return asyncio.run(print_records(options))


HELP = """
Prints a line for each record: TTL in seconds (-: never expires), type, name and value, with a tab
between them.

examples:
  %(prog)s www.example.com                 addresses of both families
  %(prog)s www.example.com AAAA            IPv6 alone, as with -6
  %(prog)s example.com txt                 another type: A, AAAA, CNAME or TXT
  %(prog)s db cache.internal --short       several names, the values alone
  %(prog)s example.com. --nameserver 192.0.2.53 --nameserver '[2001:db8::53]:5353'
                                                        a final dot: no search list
"""
EXIT_STATUS = """
exit status: 0 when every name has a record, 1 when one does not exist, 2 for a usage error, an
invalid name or a temporary error; of several the highest
"""
MORE_THAN_A_NAME = (  # a URL; an address in brackets, maybe with a port; name and port
    r'.*://(?:[^/]*@)?([^/:?#]+).*|\[(.+)\](?::\d+)?|([^:]+):\d+'
)
IP_AND_PORT = re.compile(r'(?:\[(.*)\]|([^:]*)|(.*))(?::([0-9]+))?', re.DOTALL)
OTHER_TYPES = frozenset(['ANY', 'CAA', 'HTTPS', 'MX', 'NS', 'PTR', 'SOA', 'SRV', 'SVCB'])


def parse_arguments(args: Sequence[str] | None) -> Any:
    import argparse  # here and below: only the command needs it, and it is slow to import

    parser = argparse.ArgumentParser(
        prog='python -m aiodnsresolver',
        allow_abbrev=False,
        usage='%(prog)s NAME... [TYPE...] [options]',
        description=HELP,
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'words', nargs='+', metavar='NAME', help='a name, or a record type in any case of letters'
    )
    parser.add_argument(
        '-4', dest='types', default=[], action='append_const', const='A', help='IPv4 alone'
    )
    parser.add_argument('-6', dest='types', action='append_const', const='AAAA', help='IPv6 alone')
    parser.add_argument('--short', action='store_true', help='print the values alone')
    parser.add_argument(
        '--json',
        action='store_true',
        help='print an object a line: name, type, value, ttl (null: never expires); name, error',
    )
    parser.add_argument(
        '--nameserver',
        default=[],
        action='append',
        metavar='IP[:PORT]',
        help='to ask instead of those of resolv.conf; [IP]:PORT for IPv6; again for more',
    )
    parser.add_argument('--timeout', type=float, metavar='SECONDS', help='for each try (0.5)')
    parser.add_argument(
        '-v', dest='verbose', action='store_true', help='print what is asked of which nameserver'
    )
    parser.add_argument('--version', action='version', version=__version__)
    options = parser.parse_intermixed_args(args)
    types = [word.upper() for word in options.words if word.upper() in TYPES.__members__]
    options.names = [word for word in options.words if word.upper() not in TYPES.__members__]
    options.qtypes = [
        TYPES[word] for word in dict.fromkeys([*types, *options.types] or ['A', 'AAAA'])
    ]
    try:
        if not options.names:
            raise ValueError('a NAME is needed')
        for name in options.names:
            check_name(name, len(options.names) > 1)
        options.resolve = resolver_of(
            options.timeout, [parse_nameserver(word) for word in options.nameserver]
        )
    except ValueError as error:
        parser.error(str(error))
    return options


def check_name(name: str, is_one_of_several: bool) -> None:
    """Raises ValueError for what is often taken for a name, saying what to write."""
    if name.startswith('@'):
        raise ValueError(f'{name} is not a name: write --nameserver {name[1:]}')
    if found := re.fullmatch(MORE_THAN_A_NAME, name):
        raise ValueError(f'{name} is more than a name: write {next(filter(None, found.groups()))}')
    if name in OTHER_TYPES or (is_one_of_several and name.upper() in OTHER_TYPES):
        raise ValueError(
            f'{name} is not a type that can be asked for: write one of '
            f'{", ".join(TYPES.__members__)}, or {name}. with a final dot if it is a name'
        )


def parse_nameserver(word: str) -> Nameserver:
    *ips, port = IP_AND_PORT.fullmatch(word).groups()  # type: ignore[union-attr]
    try:
        return to_nameserver(next(filter(None, ips), ''), int(port or 53))
    except ValueError as error:
        raise ValueError(
            f'--nameserver {word!r} is not IP, IP:PORT or [IP]:PORT of a nameserver: {error}'
        ) from error


def resolver_of(timeout: float | None, nameservers: Sequence[Nameserver]) -> Resolve:
    """Returns the `resolve` of the command. Raises ValueError for a bad timeout."""
    resolve = Resolver(timeout=timeout)[0]

    async def get_nameservers(_: bytes) -> AsyncGenerator[tuple[Any, ...], None]:
        for _round in range(ResolvConf().attempts):
            for nameserver in nameservers:
                yield timeout or ResolvConf().timeout, nameserver[1:]

    return Resolver(get_nameservers=get_nameservers)[0] if nameservers else resolve


async def print_records(options: Any) -> int:
    """Asks for all names at once, prints each in its turn, and returns the exit status."""
    if options.verbose:
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.DEBUG)
    found = [
        (name, asyncio.gather(find_records(options.resolve, name, options.qtypes)))
        for name in options.names
    ]
    return max([print_name(name, *(await each)[0], options) for name, each in found])


async def find_records(
    resolve: Resolve, name: str, qtypes: Sequence[TYPES]
) -> tuple[list[tuple[Any, Value]], list[ResolverError]]:
    """Returns the records of a name, each with what was asked for, and the errors."""
    records: list[tuple[Any, Value]] = []
    errors: list[ResolverError] = []
    families = tuple([qtype for qtype in qtypes if qtype in ADDRESSES])
    for asked in filter(None, [families, *(qtype for qtype in qtypes if qtype not in ADDRESSES)]):
        try:
            records += [(asked, value) for value in await resolve(name, asked)]
        except ResolverError as error:
            errors.append(error)
    return records, errors


def print_name(
    name: str, records: list[tuple[Any, Value]], errors: list[ResolverError], options: Any
) -> int:
    """Prints what was found of one name, and returns the exit status."""
    import json

    now = asyncio.get_running_loop().time()
    for asked, value in records:
        qtype = {4: TYPES.A, 6: TYPES.AAAA}.get(getattr(value, 'version', 0), asked)
        ttl = None if value.expires_at == math.inf else max(0, math.ceil(value.expires_at - now))
        text = value_to_text(value, qtype)
        if options.json:
            print(json.dumps({'name': name, 'type': qtype.name, 'value': text, 'ttl': ttl}))
        elif options.short:
            print(text)
        else:
            print('-' if ttl is None else ttl, qtype.name, name, text, sep='\t')
    if records:
        errors = [error for error in errors if not isinstance(error, DoesNotExist)]
    for message in dict.fromkeys(map(str, errors)):
        if options.json:
            print(json.dumps({'name': name, 'error': message}))
        print(message, file=sys.stderr)
    return 0 if records else 1 if all(isinstance(error, DoesNotExist) for error in errors) else 2


def value_to_text(value: Value, qtype: int) -> str:
    if not isinstance(value, bytes):
        return str(value)
    text = name_to_text(value) if value or qtype == CNAME else ''
    return text.replace(r'\032', ' ') if qtype == TXT else text


def run() -> None:
    """Runs the command, which a signal ends without a traceback."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, 'SIGPIPE'):  # pragma: no branch (Windows has none)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())


if __name__ == '__main__':
    run()
