"""A stub resolver for asyncio: names to IP addresses over UDP. No dependency, no thread, no task.

    resolve, clear_cache = Resolver()
    addresses = await resolve('www.example.com', TYPES.A)

How a name passes through this file. Each section uses only those above it, with two exceptions:
the cache holds the questions in flight, and each flight knows its LoopResolver, further below. The
classes of section "Exchange" know each other.

    resolve(name, qtype)
      name ── candidates ──▶ fqdns                       names, search list
      fqdn ── known ──▶ addresses? done                  hosts file, cache
      (fqdn, qtypes) ── join ──▶ Flight, new or joined   works by itself, in callbacks
        for (timeout, *nameservers) in the sets          resolv.conf, or a hook
          Query ──▶ datagrams ── read_reply ──▶ Answer | Failure | None
      Answer ──▶ addresses with expires_at | alias: ask again | DoesNotExist

The sections up to "Outcomes" work on bytes and values, or read a file. From "Exchange" on the code
touches the event loop. What goes wrong with a query is a value, not an exception, until
`search_error` makes the one to raise.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import enum
import errno
import functools
import io
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
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

__all__ = [
    'QUESTION',
    'RESPONSE',
    'TYPES',
    'AliasChainTooLong',
    'AnswerTooLong',
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
    'install',
    'mix_case',
    'pack',
    'parse',
    'recvfrom',
]

__version__ = '0.1.0'

logger = logging.getLogger('aiodnsresolver')

T = TypeVar('T')


def log(level: int, text: str, *args: object) -> None:
    """Logs from within a loop. What a logging handler raises goes to the loop's own handler."""
    try:
        logger.log(level, text, *args)
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {'message': 'A logging handler raised', 'exception': error}
        )


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
EDNS_SIZE = 1232  # octets, the size recommended by DNS Flag Day 2020
MAX_LETTERS = 2 * MAX_NAME  # of a name before it is encoded
MAX_ALIASES = 16
MAX_TTL = 7 * 24 * 60 * 60  # seconds, RFC 8767 §4
MAX_NEGATIVE_TTL = 10  # seconds, far below RFC 2308 §5, so that a new name is soon visible
FAILING_FOR = 30  # seconds for which a nameserver that is silent is asked last
CLOCK_TOLERANCE = 1e-6  # seconds by which sums of times may be wrong
MAX_SETS_BESIDE_ADDRESSES = 2  # where one type is missing: the one under way and the next
MISSING_FOR = 10  # seconds for which it is not asked for again, RFC 9520 §3.2
MAX_SOCKETS_FOR_ONE = 16  # for one question to one nameserver
LOOK_AGAIN_AFTER = 1  # seconds between two checks of whether a file has changed
RECENT = 2  # seconds within which a file may change twice, and have one time of change
MAX_ERROR_REPLIES = 2  # after this many in a look-up, a nameserver is not asked again
MAX_READS = 32  # at once of one socket, so that a flood does not hold the loop for long
MAX_FAILURES = 100  # kinds of failures that one look-up remembers, however long it tries

NEVER = math.inf  # in seconds of any clock
NOTHING: Any = {}  # in place of a new empty dict, which each look-up would make; never written to

AA, TC, RA = 0x0400, 0x0200, 0x0080  # flags in the second 16 bits of a header

HEADER = struct.Struct('!HHHHHH')  # ID, flags, and the number of records in each of four sections
QUERY_HEADER = HEADER.pack(0, 0x0100, 1, 0, 0, 0)[2:]  # after the ID: RD, and one question
EDNS_HEADER = HEADER.pack(0, 0x0100, 1, 0, 0, 1)[2:]  # and one additional record
QUESTION_POINTER = bytes((0b11000000, HEADER.size))  # to the name in the question
QUESTION_TAIL = struct.Struct('!HH')  # type and class
RECORD_TAIL = struct.Struct('!HHIH')  # type, class, TTL, length of the data
OPT = b'\0' + RECORD_TAIL.pack(41, EDNS_SIZE, 0, 0)  # RFC 6891 §6.1.2


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


class AnswerTooLong(ResolverError):
    """The answer does not fit in a reply by UDP, according to the last nameserver asked."""


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

ADDRESSES: dict[int, tuple[int, type[Address], str]] = {  # octets, class, that of loopback
    A: (4, IPv4AddressExpiresAt, '127.0.0.1'),
    AAAA: (16, IPv6AddressExpiresAt, '::1'),
}
TYPE_OF = {4: TYPES.A, 6: TYPES.AAAA}  # by the version of the Internet Protocol
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
MORE_THAN_A_NAME = re.compile(  # a URL; an address in brackets, maybe with a port; name and port
    r'.*://(?:[^/]*@)?(?:\[(.*)\]|([^/:?#]*)).*|\[(.+)\](?::\d+)?|([^:]+):\d+'
)
LENGTH_OCTETS = {length: bytes((length,)) for length in range(1, MAX_LABEL + 1)}
SPECIAL_DOMAINS = frozenset([b'localhost', b'onion', b'invalid'])  # RFC 6761, RFC 7686


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
    if len(name) <= MAX_NAME - 2 and PLAIN_NAME.fullmatch(name):
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
        octets = label.encode().lower() if label.isascii() else encode_label(label).lower()
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


def encode_label(label: str) -> bytes:
    """Raises UnicodeError, before the part of the codec whose time is quadratic in the length."""
    from encodings import idna  # which most programs never need

    if len(idna.nameprep(label)) > MAX_LABEL:
        raise UnicodeError('it is too long')
    return label.encode('idna')


def keep_valid(convert: Callable[..., T], words: Iterable[str], *args: Any) -> list[T]:
    """Converts words, leaving out those for which this raises ValueError."""
    found = []
    for word in words:
        with contextlib.suppress(ValueError):
            found.append(convert(word, *args))
    return found


def to_literal(name: str, fqdn: bytes) -> Any:
    """Returns the address that a name is, if it is one, in ASCII digits or others."""
    text = name.removesuffix('.') if name.isascii() else fqdn.decode()
    found = keep_valid(ipaddress.ip_address, [text])
    return to_value(found[0], NEVER) if found else None


@functools.lru_cache(maxsize=1000)
def candidates(
    name: str, search: tuple[bytes, ...], ndots: int
) -> tuple[bytes, list[bytes], Address | None]:
    """Returns the name as given, all names to ask for in their order, and the address that it is.

    See resolv.conf(5). Raises InvalidName.
    """
    fqdn = to_fqdn(name)
    literal = to_literal(name, fqdn) if ':' in name or fqdn[-1:].isdigit() else None
    # No host has such a name: otherwise it would be asked for and reported as nonexistent.
    if literal is None and ':' in name and (found := MORE_THAN_A_NAME.fullmatch(name)):
        host = next(filter(None, found.groups()), 'the host')
        raise invalid(name, f'it is more than a name: write {host}')
    if not search or DOTS.match(name[-1]) or fqdn.rpartition(b'.')[2] in SPECIAL_DOMAINS:
        return fqdn, [fqdn], literal
    names = [longer for domain in search if len(longer := fqdn + b'.' + domain) <= MAX_NAME - 2]
    return fqdn, [fqdn, *names] if fqdn.count(b'.') >= ndots else [*names, fqdn], literal


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

ADDRESS_RECORDS = {  # type -> layout of a record owned by a pointer to the question, start, length
    qtype: (
        struct.Struct(f'!6sIH{octets}s'),
        QUESTION_POINTER + QUESTION_TAIL.pack(qtype, IN),
        octets,
        address_class,
    )
    for qtype, (octets, address_class, _) in ADDRESSES.items()
}
CASE_BITS = bytes(0x20 if octet < 128 and chr(octet).isalpha() else 0 for octet in range(256))


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

    def in_words(self, asked_at: float) -> str:
        """Says what the nameserver did: `answered 192.0.2.7, TTL 30`."""
        if self.negative:
            return self.reason
        texts = [
            name_to_text(each) if isinstance(each, bytes) else str(each) for each in self.records
        ] or [f'with the alias {name_to_text(self.aliases[-1])}']
        return f'answered {", ".join(texts)}, TTL {self.expires_at - asked_at:.0f}'


class Failure(NamedTuple):
    """Why a query came to nothing. `what` is said of the nameserver: `timed out after 0.5 s`."""

    error: type[ResolverError]  # what to raise when this is the last failure
    what: str
    rcode: int = NOERROR
    cause: tuple[Any, ...] = ()  # type and arguments of the exception, if one is the cause

    def is_error_reply(self) -> bool:
        """Tells whether the nameserver replied, but not with what says whether records exist."""
        return self.error in (ResponseCodeError, TemporaryResolverError)


TOO_LONG = Failure(AnswerTooLong, f'has an answer that does not fit in {EDNS_SIZE:,} octets of UDP')


def mix_case(fqdn: bytes) -> bytes:
    """Returns a name with the case of each letter drawn at random (draft-vixie-dnsext-dns0x20).

    A reply has the question of its query, so a forger has to guess the case as well.
    """
    return mix_query(fqdn)[2:]


def mix_query(rest: bytes) -> bytes:
    """Returns a query with a random ID before what is given, whose letters get a random case.

    No octet of header, lengths, type and class has the value of a letter.
    """
    # All letters at once, as one integer of which random bits are flipped.
    random = os.urandom(size := 2 + len(rest))
    flips = int.from_bytes(b'\xff\xff' + rest.translate(CASE_BITS)) & int.from_bytes(random)
    return (int.from_bytes(rest) ^ flips).to_bytes(size)


def spell(fqdn: bytes, qtype: int, transform_fqdn: Callable[[bytes], bytes]) -> bytes:
    """Returns a question in wire format, in the case that a function gives to its letters."""
    spelled = transform_fqdn(fqdn)
    if not isinstance(spelled, bytes) or spelled.lower() != fqdn:
        raise ResolverError(
            f'{describe(fqdn, [qtype])}: transform_fqdn may change only the case of letters, '
            f'but turned {fqdn!r} into {spelled!r}'
        )
    return pack_name(spelled) + QUESTION_TAIL.pack(qtype, IN)


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
    fqdn: bytes, qtype: int, query: bytes, data: bytes, asked_at: float
) -> Answer | Failure | None:
    """Decides everything about one datagram; `asked_at` is in seconds of the loop's clock.

    None: it is not a reply to the query, the wait goes on. Failure: this nameserver is out, or the
    data are at fault for every nameserver. TOO_LONG: the reply was cut, and has nothing of use.
    """
    if not is_reply(query, data):
        return None
    _, flags, _, count, _, _ = HEADER.unpack_from(data)
    rcode = flags & 0b1111
    if (
        rcode == NOERROR
        and (layout := ADDRESS_RECORDS.get(qtype))
        and (answer := read_addresses(layout, data, len(query), count, asked_at))
    ):
        return answer
    try:
        message = parse(data)
        if rcode not in (NOERROR, NXDOMAIN):
            return Failure(ResponseCodeError, f'answered {RCODES[rcode]}', rcode)
        chain, expires_at, rrset = follow_aliases(fqdn, qtype, message.an, asked_at)
        if fault := find_fault(chain):
            return Failure(AliasChainTooLong, f'gave {fault}')
        aliases = tuple(chain[1:])
        if rrset and rcode == NOERROR:
            return to_answer(rrset, expires_at, aliases, asked_at)
    except MalformedMessage as error:
        if rcode == NOERROR and flags & TC:
            return TOO_LONG
        return Failure(TemporaryResolverError, f'gave a reply that cannot be read: {error}')
    soa = next((record for record in message.ns if record[1:3] == (SOA, IN)), None)
    if rcode == NOERROR and aliases and (flags & TC or not soa):  # it is cut, or leaves the zone
        return Answer((), expires_at, aliases)
    return read_negative(flags, soa, expires_at, aliases, asked_at)


def read_addresses(
    address_record: tuple[struct.Struct, bytes, int, type[Address]],
    data: bytes,
    offset: int,
    count: int,
    asked_at: float,
) -> Answer | None:
    """Reads the common answer section: only addresses, each owned by a pointer to the question.

    Returns None for any other. Nearly all replies look like this, and `parse` takes five times as
    long.
    """
    layout, expected_start, octets, address_class = address_record
    size = count * layout.size
    records = data[offset : offset + size]
    if not count or len(records) < size:
        return None
    expires_at, addresses = NEVER, []
    for start, ttl, length, address in layout.iter_unpack(records):
        if start != expected_start or length != octets:
            return None
        addresses.append(address_class(address, to_expires_at(ttl, asked_at)))
        expires_at = min(expires_at, addresses[-1].expires_at)
    return Answer(tuple(addresses), expires_at)


def follow_aliases(
    fqdn: bytes, qtype: int, records: Iterable[ResourceRecord], asked_at: float
) -> tuple[list[bytes], float, list[ResourceRecord]]:
    """Follows the aliases from the name of a question to the RRset of its type (RFC 1034 §3.6.2).

    Returns the names on this way, when the first alias expires, and the RRset, if there is one.
    """
    rrsets: dict[tuple[bytes, int], list[ResourceRecord]] = {}
    for record in records:
        if record.qclass == IN:
            rrsets.setdefault((record.name.lower(), record.qtype), []).append(record)
    chain = [fqdn]
    expires_at = NEVER
    while (
        (rrset := rrsets.get((chain[-1], qtype))) is None
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
            length, address_class, _ = ADDRESSES[qtype]
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
            return TOO_LONG
        if not soa and not flags & (AA | RA):
            return Failure(TemporaryResolverError, 'is neither authoritative nor recursive (lame)')
        outcome = NoRecords, 'answered with no such record'
    minimum = int.from_bytes(soa.rdata[-4:]) if soa else 0
    ttls = (soa.ttl, minimum, MAX_NEGATIVE_TTL) if soa and not flags & TC else (0,)  # not cached
    expires_at = min(expires_at, *[to_expires_at(ttl, asked_at) for ttl in ttls])
    return Answer((), expires_at, aliases, *outcome)


def answer_special(fqdn: bytes, qtype: int, now: float) -> Answer:
    """Returns the answer for a name under SPECIAL_DOMAINS, for which nothing is sent."""
    if fqdn.rpartition(b'.')[2] != b'localhost':
        return Answer(
            (), now, (), NameDoesNotExist, 'the DNS has no such names (RFC 7686, RFC 6761)'
        )
    if qtype not in ADDRESSES:
        return Answer(
            (), now, (), NoRecords, 'names under localhost have only addresses (RFC 6761)'
        )
    _, address_class, loopback = ADDRESSES[qtype]
    return Answer((address_class(loopback, now),), now)


# --- The system's files ---------------------------------------------------------------------------

HOSTS, RESOLV_CONF = '/etc/hosts', '/etc/resolv.conf'


def is_shortage(error: Exception) -> bool:
    """Tells whether file descriptors, socket buffers or, with EAGAIN, ports ran out."""
    shortages = errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EAGAIN
    return getattr(error, 'errno', 0) in shortages


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


@functools.lru_cache(maxsize=1000, typed=True)
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
    no_aaaa: bool = False
    unusual: tuple[str, ...] = ()  # what is to be said of the file


NO_SEARCH_LIST = ResolvConf()  # names are taken as they are


def without_bom(line: str) -> str:
    return line.removeprefix('\ufeff').removeprefix('ï»¿')  # UTF-8's, as it is or read as Latin-1


def parse_resolv_conf(lines: Iterable[str]) -> ResolvConf:
    """Returns the contents of a resolv.conf, skipping what makes no sense in it."""
    nameservers: list[Nameserver] = []
    unusual: list[str] = []
    found: dict[str, Any] = {}
    for line in lines:
        keyword, *words = re.split('[#;]', without_bom(line), maxsplit=1)[0].split() or ['']
        if keyword == 'nameserver':
            valid = keep_valid(to_nameserver, words[:1], 53)
            nameservers += valid
            if not valid or line.split()[1] != words[0]:
                what = 'what is more than' if valid else 'a line without'
                unusual.append(f'{what} an IP address is ignored: {line.strip()[:80]!r}')
        elif keyword in ('search', 'domain'):
            domains = keep_valid(to_fqdn, words if keyword == 'search' else words[:1])
            if domains or words == ['.']:  # the root: no search list
                found['search'] = tuple(dict.fromkeys(domains))
        elif keyword == 'options':
            for word in words:
                found.update(parse_option(word))
    if not nameservers:
        unusual.append('it is missing or names no nameserver, so that 127.0.0.1 is asked')
        nameservers = [to_nameserver('127.0.0.1', 53)]
    return ResolvConf(tuple(dict.fromkeys(nameservers)), unusual=tuple(unusual), **found)


FLAGS: dict[str, dict[str, Any]] = {
    'rotate': {'rotate': True},
    'no-reload': {'reload': False},
    'randomize-case:0': {'randomize_case': False},
    'no-aaaa': {'no_aaaa': True},
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
    had just been changed could change unseen, and is read again after `RECENT` seconds: that it is
    recent is a part of its version. A file that cannot be read has no lines.
    """

    def __init__(self, path: str, parse_lines: Callable[[Iterable[str]], T]) -> None:
        self.path = path
        self.parse_lines = parse_lines
        self.check_again_at = -NEVER
        self.version: tuple[int, ...] | None = None  # None: none was read as a whole
        self.contents: T | None = None

    def read(self, now: float) -> T:
        """Returns the contents at a time in seconds of a clock that is always the same.

        Raises FileShortage.
        """
        if now >= self.check_again_at:
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
            contents, before = self.parse_lines(lines), self.contents
            self.version = version if is_whole else None
            if contents != before:
                self.contents = contents
                if before is not None:
                    log(logging.INFO, '%s has changed, and was read again', self.path)

    def stat(self) -> tuple[int, ...]:
        with contextlib.suppress(OSError):
            found = os.stat(self.path)
            is_recent = abs(time.time() - found.st_mtime) < RECENT
            return *found[:7], found.st_mtime_ns, found.st_ctime_ns, is_recent
        return ()

    def read_lines(self, version: tuple[int, ...]) -> list[str]:
        if version and not stat.S_ISREG(version[0]):
            return []  # to open a pipe could block
        with open(self.path, 'r') as file:  # noqa: UP015
            if hasattr(file, 'reconfigure'):
                file.reconfigure(errors='replace')
            return list(file)


class FailingNameservers:
    """The nameservers of resolv.conf that are asked last for a while, because they are silent.

    A nameserver fails when it was asked for two different names and waited for one timeout in all,
    and has sent nothing since its last reply. Nothing else is remembered: a refused connection
    costs no time, a response code may be due to the name, and one lost datagram is no reason to
    change an order that matters where each nameserver knows names of its own.

    `silences` has for each nameserver the first name that it was silent to, whether there was
    another one, when the first wait began, and how long all took: their sum, but never more than
    the time since then. `retry_at` has when each that failed is to be tried again: it fails until
    then, or until its next reply, which removes it. `replies` counts the replies of each: a query
    that was sent before the last one says nothing.
    """

    def __init__(self) -> None:
        self.replies: collections.Counter[Nameserver] = collections.Counter()
        self.silences: dict[Nameserver, tuple[bytes, bool, float, float]] = {}
        self.retry_at: dict[Nameserver, float] = {}

    def choose(self, nameservers: Sequence[Nameserver], now: float) -> Nameserver:
        """Returns the first nameserver that does not fail or whose retry time has come.

        Choosing one whose retry time has come postpones its next retry, so one query probes it.
        """
        if not self.retry_at:
            return nameservers[0]
        chosen = next(
            (each for each in nameservers if now >= self.retry_at.get(each, now)), nameservers[0]
        )
        if now >= self.retry_at.get(chosen, NEVER):
            self.retry_at[chosen] = now + FAILING_FOR
        return chosen

    def waited(
        self, nameserver: Nameserver, name: bytes, since: float, until: float, timeout: float
    ) -> bool:
        """Counts a wait without a reply, and tells whether the nameserver fails from now on."""
        first, is_to_several, began, seconds = self.silences.get(
            nameserver, (name, False, since, 0)
        )
        is_to_several |= name != first
        began = min(began, since)
        seconds = min(seconds + until - since, until - began)
        self.silences[nameserver] = first, is_to_several, began, seconds
        is_long = seconds > timeout - CLOCK_TOLERANCE
        if nameserver in self.retry_at or not (is_to_several and is_long):
            return False
        self.retry_at[nameserver] = until + FAILING_FOR
        return True

    def is_any_failing(self, now: float) -> bool:
        """Tells whether a nameserver is asked last."""
        return any(now < retry_at for retry_at in self.retry_at.values())

    def replied(self, nameserver: Nameserver) -> bool:
        """Ends the silence of a nameserver, and tells whether it was failing."""
        self.replies[nameserver] += 1
        self.silences.pop(nameserver, None)
        return self.retry_at.pop(nameserver, None) is not None


# --- Outcomes -------------------------------------------------------------------------------------


# These two are reported with the other failures, but never decide which error is raised.
CUT = Failure(ResolverTimeout, 'gave a truncated reply that holds no record')
WRONG_CASE = Failure(
    ResolverTimeout,
    'gave a reply that was ignored, since it does not keep the case of the letters in the query: '
    'if it never does, turn the mixing of the case off, by "options randomize-case:0" in '
    'resolv.conf or, with get_nameservers, by Resolver(transform_fqdn=lambda fqdn: fqdn)',
)
NO_FAILURE = 0, Failure(TemporaryResolverError, '')  # before anything was asked
SERIAL = itertools.count(1)  # numbers all other failures, to tell which was the last


class Failures(NamedTuple):
    """Why a question has no answer: how often each nameserver failed in which way, and the last.

    Until `expires_at` a look-up of both types takes this for the outcome of the type, and does not
    ask again.
    """

    times: dict[tuple[Nameserver | str, Failure], int]
    last: tuple[int, Failure] = NO_FAILURE  # with its number in SERIAL
    aliases: tuple[bytes, ...] = ()  # that led to the question
    expires_at: float = -NEVER
    records: tuple[Value, ...] = ()  # as in Answer: there are none
    negative: type[ResolverError] = ResolverError

    def are_error_replies(self) -> bool:
        """Tells whether each nameserver replied, and none with an answer or with bad data.

        Then the domain is broken, which says nothing of the other candidates of a search list. One
        that is out may have replied later than its timeout.
        """
        return bool(self.times) and all(
            failure.is_error_reply()
            or (failure.error is ResolverTimeout and self.is_out(nameserver))
            for nameserver, failure in self.times
        )

    def is_out(self, nameserver: Nameserver | str) -> bool:
        """Tells whether a nameserver gave so many error replies that it is not asked any more."""
        if not self.times:  # as in most look-ups: the rest takes a few percent of one
            return False
        error_replies = sum(
            count
            for (asked, each), count in self.times.items()
            if asked == nameserver and each.is_error_reply()
        )
        return error_replies >= MAX_ERROR_REPLIES or (nameserver, TOO_LONG) in self.times

    @property
    def reason(self) -> str:
        """Says what each nameserver did."""
        return '; '.join([
            f'{nameserver} {failure.what}' + (f' ({count} times)' if count > 1 else '')
            for (nameserver, failure), count in self.times.items()
        ]) or (
            'no nameserver was asked, since get_nameservers yielded none, or since no socket or '
            'buffer was free'
        )  # fmt: skip

    def error(self, message: str) -> ResolverError:
        """Makes the error to raise."""
        last = self.last[1]
        error = last.error(message)
        if isinstance(error, ResponseCodeError):
            error.rcode = last.rcode
        if last.cause:
            kind, *arguments = last.cause
            error.__cause__ = cause = kind(*arguments)
            error.errno = getattr(cause, 'errno', None)  # type: ignore[attr-defined]
        return error


NO_FAILURES = Failures(NOTHING)
Outcome = Answer | Failures


def joined(outcome: Outcome, alias: Answer) -> Outcome:
    """Returns the outcome for an alias as that for the name that has the alias."""
    records = [
        type(each)(each, min(each.expires_at, alias.expires_at))  # type: ignore[arg-type]
        for each in outcome.records
    ]
    return outcome._replace(
        records=tuple(records),
        expires_at=min(outcome.expires_at, alias.expires_at),
        aliases=alias.aliases + outcome.aliases,
    )


# The reason of the weakest outcome: beside one of the other type it decides nothing.
NO_AAAA = 'resolv.conf says no-aaaa, so that it is not asked for'


def merge(one: Outcome, other: Outcome) -> Outcome:
    """Returns the outcome for a name of the outcomes for two record types.

    Records of one type come first, then a temporary failure, then bad data. A name that exists by
    one type exists.
    """
    if isinstance(one, Failures) and isinstance(other, Failures):
        times = {
            key: max(one.times.get(key, 0), other.times.get(key, 0))
            for key in one.times | other.times
        }
        last = max(  # a temporary one comes before bad data
            (one.last, other.last),
            key=lambda last: (issubclass(last[1].error, TemporaryResolverError), last[0]),
        )
        return Failures(times, last, one.aliases or other.aliases)
    if one.records and other.records:
        return Answer(one.records + other.records, min(one.expires_at, other.expires_at))
    return max((one, other), key=rank)


def rank(outcome: Outcome) -> tuple[bool, ...]:
    """Orders the outcomes for one look-up: the greatest is that of the look-up."""
    return (
        bool(outcome.records),
        isinstance(outcome, Failures),
        outcome.negative is NoRecords,
        outcome.reason != NO_AAAA,
    )


class Cache:
    """What is known of questions, by name and type, until it expires, and the questions in flight.

    Expired answers are removed when next looked up, or when they are least recently used. With
    `stale_for`, positive answers are also kept for so many seconds after they expire, for look-ups
    that no nameserver answers (RFC 8767).
    """

    def __init__(self, max_size: int, stale_for: float) -> None:
        self.max_size = max_size
        self.stale_for = stale_for
        # By the candidates and the type of a look-up: which of them gave it, and what.
        self.stale: collections.OrderedDict[tuple[Any, ...], tuple[bytes, Answer]] = (
            collections.OrderedDict()
        )
        self.known: collections.OrderedDict[tuple[bytes, int], Outcome] = collections.OrderedDict()
        self.in_flight: dict[tuple[bytes, int], Question] = {}
        self.times_cleared = 0

    def find(self, fqdn: bytes, qtype: int, now: float) -> Outcome | None:
        if outcome := self.known.get(key := (fqdn, qtype)):
            if now < outcome.expires_at:
                self.known.move_to_end(key)
                return outcome
            del self.known[key]
        return None

    def begin(self, question: Question) -> None:
        self.in_flight[question.key] = question

    def end(self, question: Question) -> None:
        if self.in_flight.get(question.key) is question:
            del self.in_flight[question.key]

    def keep(self, question: Question, outcome: Outcome) -> None:
        """Keeps the outcome of a question until it expires, unless the cache was cleared."""
        if self.in_flight.get(question.key) is not question:
            return
        if outcome.expires_at > question.asked_at:
            self.known[question.key] = outcome
            if len(self.known) > self.max_size:
                self.known.popitem(last=False)
        elif isinstance(outcome, Answer):
            self.known.pop(question.key, None)

    def keep_stale(self, fqdns: Sequence[bytes], fqdn: bytes, outcomes: dict[TYPES, Any]) -> None:
        """Keeps what a candidate gave a look-up. The answer that it has nothing ends that."""
        for qtype, outcome in outcomes.items():
            key = *fqdns, qtype
            if outcome.records:
                self.stale[key] = fqdn, outcome
                self.stale.move_to_end(key)
                if len(self.stale) > self.max_size:
                    self.stale.popitem(last=False)
            elif isinstance(outcome, Answer) and self.stale.get(key, (b'',))[0] == fqdn:
                del self.stale[key]

    def find_stale(
        self, fqdns: Sequence[bytes], qtypes: Sequence[TYPES], now: float
    ) -> tuple[Value, ...]:
        """Returns the records, of all types, of the first candidate of which some are kept."""
        found = [
            self.stale[key]
            for qtype in qtypes
            if (key := (*fqdns, qtype)) in self.stale
            and now <= self.stale[key][1].expires_at + self.stale_for
        ]
        first = min([fqdns.index(fqdn) for fqdn, _ in found], default=0)
        return tuple([
            record
            for fqdn, answer in found
            if fqdn == fqdns[first]
            for record in answer.records
        ])  # fmt: skip

    def clear(self) -> None:
        """Forgets all: a question in flight goes on, but is neither joined nor kept any more."""
        self.known.clear()
        self.stale.clear()
        self.in_flight.clear()
        self.times_cleared += 1


# --- Exchange -------------------------------------------------------------------------------------
#
# Strategy: a Flight is a name whose questions, one for each record type, are put to one set of
# nameservers after another. It works by itself, in callbacks of the loop: callers join it and leave
# it, and the last one that leaves closes it. Each Query has a socket of its own. Sockets opens them
# for all flights of a loop and keeps to the limit; Poller calls queries whose sockets are readable,
# and flights whose time is up. Only a hook has to be awaited: the first caller does that, in its
# own task, and hands the set to the flight.
#
# Each attribute is written by its own class alone; a flight also writes its questions and queries,
# which are parts of it. Other classes call methods.
#
# At the end of each step of the loop, unless a flush is due:
#
#   - No more sockets are open than the limit.
#   - A flight that is asking has queries in its set and, once one was sent, a deadline; or nothing
#     of its set was sent, and `end_unsent_set` is scheduled. No other flight has a deadline.
#   - Each question of a flight has callers, each of which wants it, and no other ones.
#   - A flight that is idle is in line for its first turn, or in `to_drive` of a caller, which has
#     been woken or is in a hook.
#   - Nothing is in line while there is room for the first in line.
#
# What was tried and is not done:
#
#   - A caller that asks for all that join it. What happened to it happened to the others: when it
#     was cancelled, another one asked anew, and one lost datagram cost each of them its answer.
#   - Closing the socket of one look-up for another, or for a retry. Where nameservers are slow,
#     each retry threw away the reply that was on its way.
#   - A flight for each question. A hook would have to serve two of them at once.
#   - Adding a record type to a flight under way. It would begin in the middle of a set; now it has
#     a flight of its own.
#   - A context variable that says in whose hook the code is. It tells of tasks made there, too, but
#     also of all that is begun while a look-up is driven by hand.
#   - Sending each query as it is made: 10 to 15 % slower with 100 look-ups under way.


# What an event makes of each state that may have it; in any other state it is a KeyError.
QUERY = {
    'sent': {'open': 'active'},
    'time up': {'active': 'late'},  # its set is over; it is open for a late answer
    'again': {'late': 'open'},
    'closed': dict.fromkeys(('open', 'active', 'late'), 'closed'),
}
FLIGHT = {  # 'idle': it waits for its first turn, or for a caller that awaits the hook
    'hook': {'idle': 'in hook'},  # it needs its next set
    'hook lost': {'in hook': 'idle'},
    'set': {'idle': 'ready', 'in hook': 'ready'},
    'room': {'ready': 'asking'},  # first in line; set to ready again where no socket was free
    'no room': {'asking': 'ready'},
    'set over': {'asking': 'idle'},
    'closed': dict.fromkeys(('idle', 'in hook', 'ready', 'asking'), 'over'),
}

new_epoll: Callable[[], Any] | None = getattr(select, 'epoll', None)
# One-shot: a closed socket that a forked child still holds stays in epoll, which would report it
# for ever.
READABLE_ONCE: int = getattr(select, 'EPOLLIN', 0) | getattr(select, 'EPOLLONESHOT', 0)


class Poller:
    """Reads queries whose sockets are readable, and tells flights that their time is up.

    The loop knows of one epoll object and one timer. The epoll object is in the loop while there is
    a socket or a timer: to take it out after each look-up would take more time. The timer is due at
    the earliest deadline or before it, and set again only if there is a deadline then. Where the
    system has no epoll, the loop watches each socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.epoll: Any = None
        self.queries: dict[int, Query] = {}  # by the file descriptor of their open socket
        self.timer: asyncio.TimerHandle | None = None
        self.due = NEVER  # when the timer is

    def watch(self, fd: int, query: Query) -> None:
        """Calls `query.read` once, when the socket is readable.

        Raises OSError or NotImplementedError.
        """
        if new_epoll is None:
            self.loop.add_reader(fd, query.read)
        else:
            epoll = self.epoll or new_epoll()  # a new one is freed, so closed, if a line raises
            epoll.register(fd, READABLE_ONCE)
            if self.epoll is None:
                self.loop.add_reader(epoll.fileno(), self.dispatch)
                self.epoll = epoll
        self.queries[fd] = query

    def rearm(self, fd: int) -> None:
        """Re-arms the socket, if it is open, for one more `read`."""
        if self.epoll is not None and fd in self.queries:
            self.epoll.modify(fd, READABLE_ONCE)

    def forget(self, fd: int) -> None:
        """Stops watching a socket that is about to be closed, which removes it from epoll."""
        del self.queries[fd]
        if new_epoll is None and not self.loop.is_closed():
            self.loop.remove_reader(fd)
        if self.timer is None:
            self.leave_if_idle()

    def dispatch(self) -> None:
        events = self.epoll.poll(0)
        try:
            for fd, _ in events:
                if query := self.queries.get(fd):
                    query.read()
            events = []
        finally:  # what was not read, because of a KeyboardInterrupt, is reported again
            for fd, _ in events:
                self.rearm(fd)

    def set_timer(self, when: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer, self.due = self.loop.call_at(when, self.expire), when

    def expire(self) -> None:
        """Tells flights that their time is up. A timer that is called early is believed."""
        now = max(self.due, self.loop.time())
        self.timer, self.due = None, NEVER
        try:
            for flight in sorted(self.flights(), key=lambda flight: flight.deadline):
                if flight.deadline <= now:
                    flight.time_up(now)
        finally:
            earliest = min([flight.deadline for flight in self.flights()], default=NEVER)
            if earliest < self.due:
                self.set_timer(earliest)
            self.leave_if_idle()

    def flights(self) -> Iterable[Flight]:
        """Returns the flights that have sockets: only these have deadlines.

        To go through all of them when the timer is due is cheaper than to keep them in order.
        """
        return dict.fromkeys([query.question.flight for query in self.queries.values()])

    def leave_if_idle(self) -> None:
        """Takes epoll out of the loop if there is neither a socket nor a timer, and closes it."""
        is_idle = not self.queries and self.timer is None
        if self.epoll is not None and (is_idle or self.loop.is_closed()):
            if not self.loop.is_closed():
                self.loop.remove_reader(self.epoll.fileno())
            self.epoll = None


NONBLOCK: int = getattr(socket, 'SOCK_NONBLOCK', 0)
SOCKET_TYPE: int = socket.SOCK_DGRAM | NONBLOCK


class Socket(socket.SocketType):
    """A socket that is closed without a warning when nothing refers to it any more.

    That happens where it cannot be connected, and to look-ups left over when a loop is closed.
    """

    __slots__ = ()
    __del__ = socket.SocketType.close


class Query:
    """A query about one question to one nameserver, over a socket of its own.

    It is a part of its flight, which writes what happens to it. Raises OSError or
    NotImplementedError if the socket cannot be opened or watched.
    """

    def __init__(
        self, poller: Poller, question: Question, nameserver: Nameserver, wire: bytes, opt: bytes
    ) -> None:
        self.question = question
        self.nameserver = nameserver
        self.wire = wire
        self.opt = opt  # what is sent after it
        self.state = 'open'
        self.sent_at = NEVER  # for the first time
        self.replies = 0  # that the nameserver had sent then
        self.sock = Socket(nameserver.family, SOCKET_TYPE)  # which is closed where a line raises
        if not SOCKET_TYPE & NONBLOCK:
            self.sock.setblocking(False)
        self.sock.connect(nameserver.address() if '%' in nameserver.host else nameserver[1:])
        self.fd = self.sock.fileno()  # kept, since a socket that was collected has none
        poller.watch(self.fd, self)

    def read(self) -> None:
        """Reads what has arrived, which counts, however late it is read."""
        question = self.question
        for _ in range(MAX_READS):
            if self.state == 'closed':
                return
            try:
                data = self.sock.recv(MAX_DATAGRAM)
            except BlockingIOError:  # a datagram with a wrong checksum, or it was read before
                break
            except OSError as error:
                question.flight.query_failed(self, socket_failure(error))
                return
            if found := read_reply(
                question.fqdn, question.qtype, self.wire, data, question.asked_at
            ):
                question.flight.received(self, found)
                return
            if data[:2] == self.wire[:2] and is_reply(self.wire.lower(), data.lower()):
                question.flight.failed(question, self.nameserver, WRONG_CASE)
        question.flight.resolver.sockets.poller.rearm(self.fd)


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


class Sockets:
    """Opens sockets, never more than the limit, and says which flight is next.

    The limit is `max_sockets`, or fewer while the system refuses more: then it is what was open at
    that time and grows with each socket that is closed, until none is open or `max_sockets` is
    reached again.

    There is one line: first, in `ready`, flights that have a set and no socket, then, in `waiting`,
    those that have had no turn yet. A flight with sockets is never in it: if no other is free, it
    sends again over one of its own, or gives up its own oldest.
    """

    def __init__(self, poller: Poller, max_sockets: int) -> None:
        self.poller = poller
        self.max_sockets = self.limit = max_sockets
        self.ready: collections.OrderedDict[Flight, None] = collections.OrderedDict()
        self.waiting: collections.OrderedDict[Flight, None] = collections.OrderedDict()
        # Not in line: they have late sockets, and wait for a hook, their own or another's.
        self.at_hook: collections.OrderedDict[Flight, None] = collections.OrderedDict()
        self.outbox: collections.deque[Query] = collections.deque()  # open, to be sent soon
        self.is_flush_due = False

    def admit(self, flight: Flight, is_first: bool) -> None:
        """Gives a new flight its turn, or the last place in line."""
        if is_first or (
            not self.waiting and len(self.poller.queries) + len(self.ready) < self.limit
        ):
            flight.next_set()
        else:
            self.waiting[flight] = None
            self.flush_soon()  # one at a hook may have to give up a socket

    def enqueue(self, flight: Flight, is_first: bool = False) -> None:
        """Has a flight that has a set, and no socket, asked at the end of this step of the loop.

        Queries sent together are cheaper, since a nameserver on this machine is woken only once.
        With nothing else under way, they are sent at once.
        """
        self.ready[flight] = None
        if is_first:
            self.ready.move_to_end(flight, last=False)
        if self.poller.queries:
            self.flush_soon()
        elif not self.is_flush_due:
            self.flush()

    def awaits_hook(self, flight: Flight) -> None:
        """The sockets of a flight may be given up for others, until it has its next set."""
        self.at_hook[flight] = None
        self.flush_soon()

    def remove(self, flight: Flight) -> None:
        """Takes a flight out of the line, or from those that wait for a hook."""
        for flights in (self.waiting, self.ready, self.at_hook):
            flights.pop(flight, None)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Schedules `flush` for the end of this step, if anything is in line or in the outbox."""
        if (
            (self.ready or self.waiting or self.outbox)
            and not self.is_flush_due
            and not self.poller.loop.is_closed()
        ):
            self.is_flush_due = True
            self.poller.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Opens sockets for the first in line while there is room, and sends what is open."""
        self.is_flush_due = True  # so that nothing schedules another one
        # How many flights may have their first turn now. One with a hook opens no socket in it, so
        # that the room at the start is the bound.
        turns = self.limit - len(self.poller.queries) if self.waiting else 0
        try:
            while (self.ready or (self.waiting and turns > 0)) and self.make_room():
                if self.ready:
                    self.ready.popitem(last=False)[0].go_on()
                else:
                    turns -= 1
                    self.waiting.popitem(last=False)[0].next_set()
            self.send()
        finally:
            self.is_flush_due = False
            if self.outbox or ((self.ready or self.waiting) and self.make_room()):
                self.flush_soon()

    def make_room(self) -> bool:
        """Tells whether the first in line can go on: with room for its whole set, where possible.

        Late sockets of flights whose hook is awaited are closed for that, the oldest first: a hook
        may await another name, which may need the last socket.
        """
        first = next(iter(self.ready), None)
        needed = len(first.unasked) if first else 1
        while needed > (room := self.limit - len(self.poller.queries)) and room < self.limit:
            if not self.at_hook:
                return False
            next(iter(self.at_hook)).give_up_oldest()
        return True

    def open(self, question: Question, nameserver: Nameserver) -> Query | Failure | None:
        """Returns a query over a new socket, which will be sent. None: there is no room.

        Raises what `transform_fqdn` does.
        """
        if len(self.poller.queries) >= self.limit:
            return None
        wire, opt = question.make_query(nameserver)
        try:
            query = Query(self.poller, question, nameserver, wire, opt)
        except (OSError, NotImplementedError) as error:
            if is_shortage(error) and self.poller.queries:
                self.limit = len(self.poller.queries)
                return None
            return socket_failure(error)
        self.outbox.append(query)
        if not self.is_flush_due:
            self.flush_soon()
        return query

    def send_again(self, query: Query) -> None:
        self.outbox.append(query)
        self.flush_soon()

    def send(self) -> None:
        """Sends what is open. A query for which there is no buffer goes back to its flight."""
        now = self.poller.loop.time()
        while self.outbox:
            query = self.outbox.popleft()
            if query.state != 'open':  # its question has an answer, or no caller
                continue
            flight = query.question.flight
            try:
                query.sock.send(query.wire + query.opt)
            except OSError as error:
                sent = sum(each.sent_at < NEVER for each in self.poller.queries.values())
                if is_shortage(error) and sent:
                    flight.no_buffer(query)
                    self.limit = sent
                else:
                    flight.query_failed(query, socket_failure(error))
            else:
                flight.sent(query, now)
        if self.limit < len(self.poller.queries):  # there was a buffer for some after all
            self.limit = len(self.poller.queries)

    def close(self, query: Query) -> None:
        self.poller.forget(query.fd)
        query.sock.close()
        if self.limit < self.max_sockets:
            self.limit = self.limit + 1 if self.poller.queries else self.max_sockets
        if self.ready or self.waiting:
            self.flush_soon()


def check_set(flight: Flight, given: Any) -> tuple[float, list[Nameserver]]:
    """Returns the timeout and the nameservers of a set from a hook. Raises ResolverError."""
    try:
        timeout, *nameservers = given
        if not 0 <= timeout < math.inf:
            raise ValueError(f'{timeout!r} is not a valid timeout')
        return float(timeout), [to_nameserver(*nameserver) for nameserver in nameservers]
    except (TypeError, ValueError, OverflowError) as error:
        raise ResolverError(
            f'{describe(flight.fqdn, flight.questions)}: get_nameservers yielded {given!r}, where '
            '(timeout, (ip, port), ...) is needed, with the IP address of a nameserver and not its '
            f'name: {error}'
        ) from error


class Caller:
    """One look-up: what it was asked for, and the questions of its present name that it waits for.

    Once one type has addresses or an alias, the other is waited for to the end of the set under way
    and of one more, as in RFC 8305 §3: one lost datagram does not lose a whole family, and a family
    that is never answered does not cost all tries. `patience` is how many more sets these are.
    """

    def __init__(
        self,
        qtypes: tuple[TYPES, ...],
        as_given: bytes,
        fqdns: Sequence[bytes],
        outcomes: dict[TYPES, Outcome],
    ) -> None:
        self.qtypes = qtypes
        self.as_given = as_given
        self.fqdns = fqdns  # to be tried in this order
        self.outcomes = outcomes  # of the present name, at first the first one
        self.wanted: dict[TYPES, Question] = {}
        self.patience = NEVER
        self.raised: tuple[Exception, TracebackType | None] | None = None  # by a hook
        self.has_waited = False  # for a name: the next one does not go to the end of the line
        self.future: asyncio.Future[None] | None = None
        self.to_drive: Sequence[Flight] = ()  # whose hooks this look-up is to await
        self.is_in_hook = False
        self.to_close: Sequence[Any] = ()  # generators of hooks
        if outcomes:
            self.begin(outcomes)

    def begin(self, outcomes: dict[TYPES, Outcome], is_beside_addresses: bool = False) -> None:
        """Begins with a name of which some outcomes are known."""
        self.outcomes = outcomes
        is_impatient = is_beside_addresses or any(
            outcome.negative is None for outcome in outcomes.values()
        )
        self.patience = MAX_SETS_BESIDE_ADDRESSES if is_impatient else NEVER

    def wants(self, questions: dict[TYPES, Question]) -> None:
        self.wanted.update(questions)

    def settle(self, qtype: TYPES, outcome: Outcome) -> None:
        """Takes the outcome of a question."""
        del self.wanted[qtype]
        self.outcomes[qtype] = outcome
        if not self.wanted:
            self.wake()
        elif self.patience == NEVER and outcome.negative is None:
            self.patience = MAX_SETS_BESIDE_ADDRESSES

    def fail(self, error: Exception) -> None:
        """Ends with what a hook raised, with its traceback as it is now."""
        self.raised = error, error.__traceback__
        self.wake()

    def wake(self) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def count_vain_set(self) -> bool:
        """Counts a set without an answer, and tells whether it was the last to wait for."""
        self.patience -= 1
        return self.patience <= 0

    def drive(self, flight: Flight) -> None:
        """Has this look-up await the hook of a flight, in its own task."""
        self.to_drive = [*self.to_drive, flight]
        if self.is_in_hook and flight.late:  # this or another hook is awaited, which may take long
            flight.resolver.sockets.awaits_hook(flight)
        self.wake()

    def closes(self, generator: Any) -> None:
        """Has this look-up close what a hook gave, in its own task."""
        if generator is not None:
            self.to_close = [*self.to_close, generator]

    async def await_hooks(self) -> None:
        """Awaits the next sets of hooks, for all that wait for them."""
        while self.to_drive:
            flight, *self.to_drive = self.to_drive
            if flight.state != 'idle':
                continue
            self.is_in_hook = True
            if self.to_drive:
                self.pass_on()
            try:
                given = check_set(flight, await anext(flight.enter_hook()))
            except StopAsyncIteration:
                flight.no_more_sets()
            except Exception as error:
                flight.raised(error)
            else:
                if flight.state == 'in hook':  # else an answer came meanwhile
                    flight.ask(*given)
            finally:
                self.is_in_hook = False
                if flight.state == 'in hook':  # cancelled
                    flight.lose_hook()  # `leave`, which follows, has another caller await it
                elif flight.state == 'over':
                    self.closes(flight.generator)

    async def close_hooks(self) -> None:
        generator, *self.to_close = self.to_close
        try:
            await generator.aclose()
        finally:
            if self.to_close:
                await self.close_hooks()

    def leave(self) -> None:
        """Waits for nothing any more."""
        flights = dict.fromkeys([question.flight for question in self.wanted.values()])
        self.wanted = {}
        for flight in flights:
            flight.left(self)
        self.pass_on()

    def pass_on(self) -> None:
        """Has other callers await the hooks that this look-up was to await."""
        flights, self.to_drive = self.to_drive, ()
        for flight in flights:
            if flight.state == 'idle':
                flight.next_set()

    def sleep(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Returns what to await until there is an outcome, or a hook to await."""
        self.has_waited = True
        self.future = loop.create_future()
        return self.future

    def raise_error_of_hook(self) -> None:
        """Raises it with the frames that it had, and keeps nothing that refers to this look-up."""
        (error, traceback), self.raised = self.raised, None  # type: ignore[misc]
        try:
            raise error.with_traceback(traceback)
        finally:
            del error


class Question:
    """A question in flight: which callers wait for it, and what happened to its queries.

    It is a part of its flight, which writes it.
    """

    def __init__(
        self, flight: Flight, fqdn: bytes, qtype: TYPES, packed: bytes, caller: Caller
    ) -> None:
        self.flight = flight
        self.fqdn = fqdn
        self.qtype = qtype
        self.key = fqdn, qtype
        self.wire = packed + QUESTION_TAIL.pack(qtype, IN)
        self.callers: dict[Caller, None] = {caller: None}
        self.asked_at = NEVER  # when its first query was about to be sent
        self.is_asked = False  # in the set under way
        self.failures = NO_FAILURES

    def __str__(self) -> str:
        return describe(self.fqdn, [self.qtype])

    def make_query(self, nameserver: Nameserver) -> tuple[bytes, bytes]:
        """Returns a new query, up to the question, and what follows it.

        Raises what `transform_fqdn` does.
        """
        resolver = self.flight.resolver
        is_cut = self.failures.times and (nameserver, CUT) in self.failures.times
        header, opt = (EDNS_HEADER, OPT) if is_cut else (QUERY_HEADER, b'')
        if resolver.transform_fqdn is not mix_case:
            spelled = spell(self.fqdn, self.qtype, resolver.transform_fqdn)
        elif resolver.conf.randomize_case:
            return mix_query(header + self.wire), opt
        else:
            spelled = self.wire
        return os.urandom(2) + header + spelled, opt

    def failures_so_far(self) -> Failures:
        """Returns why there is no answer, to be kept if a caller has one of the other type."""
        is_kept = any(caller.patience < NEVER for caller in self.callers)
        expires_at = self.flight.resolver.loop.time() + MISSING_FOR if is_kept else -NEVER
        return self.failures._replace(expires_at=expires_at)


def is_executing(generator: Any) -> bool:
    """Tells whether this very code is called by a generator: only then its frame has a caller."""
    return getattr(getattr(generator, 'ag_frame', None), 'f_back', None) is not None


class Flight:
    """A name that is being asked for, for all that wait for it: one question for each type.

    Its queries are in `in_set`, open or active, or in `late`.
    """

    def __init__(
        self, resolver: LoopResolver, fqdn: bytes, qtypes: Iterable[TYPES], caller: Caller
    ) -> None:
        self.resolver = resolver  # of section Resolver, below: what all flights have in common
        self.fqdn = fqdn
        self.name = caller.as_given  # that led to this one
        self.state = 'idle'
        self.failing = resolver.failing  # as it is now: for a new resolv.conf there is a new one
        self.has_answer = False  # to one of the types that it began with
        self.sets: Iterator[tuple[float, Sequence[Nameserver]]] | None = None  # by resolv.conf
        self.generator: Any = None  # of sets, by the hook
        self.timeout = 0.0  # of the set
        self.deadline = NEVER
        self.unasked: Sequence[tuple[Question, Nameserver]] = ()  # what is left of the set
        self.in_set: dict[Query, None] = NOTHING
        self.late: dict[Query, None] = NOTHING  # the oldest first
        self.questions: dict[TYPES, Question] = {}
        packed = pack_name(fqdn)
        for qtype in qtypes:
            self.questions[qtype] = question = Question(self, fqdn, qtype, packed, caller)
            resolver.cache.begin(question)
        caller.wants(self.questions)

    # -- Callers

    def join(self, question: Question, caller: Caller) -> None:
        """Has a caller wait for a question, too. In a hook for the name: raises ResolverError."""
        in_flight = [self.resolver.cache.in_flight.get((self.fqdn, qtype)) for qtype in TYPES]
        if any(is_executing(each.flight.generator) for each in in_flight if each):
            raise ResolverError(
                f'{question}: get_nameservers awaits the name that it is called for'
            )
        question.callers[caller] = None
        caller.wants({question.qtype: question})
        if self.state == 'idle' and self not in self.resolver.sockets.waiting:
            self.next_set()  # the caller that is to await its hook may be in another one

    def left(self, caller: Caller) -> None:
        """A caller waits no more. What no caller waits for is not asked any more."""
        for question in self.questions.values():
            question.callers.pop(caller, None)
        is_closed = self.resolver.loop.is_closed()
        unwanted = [each for each in self.questions.values() if is_closed or not each.callers]
        for question in unwanted:
            self.count_silence(question, self.resolver.loop.time())
        self.remove(unwanted, caller)

    # -- The hook, which one of the callers awaits

    def enter_hook(self) -> Any:
        """Returns the generator whose next set is to be awaited."""
        self.state = FLIGHT['hook'][self.state]
        if self.late:
            self.resolver.sockets.awaits_hook(self)
        if self.generator is None:
            generator: Any = self.resolver.get_nameservers(self.fqdn)  # type: ignore[misc]
            if not hasattr(generator, 'aclose'):
                raise ResolverError(
                    f'{describe(self.fqdn, self.questions)}: get_nameservers gave {generator!r}: '
                    'it has to be an async generator (async def, with yield)'
                )
            self.generator = generator
        return self.generator

    def lose_hook(self) -> None:
        """The caller was cancelled in the hook, which ends the generator."""
        self.state = FLIGHT['hook lost'][self.state]
        self.generator = None
        self.next_set()

    # -- Sets

    def next_set(self) -> None:
        """Asks the next set, or has a caller get it from the hook: the first in no other hook."""
        if self.resolver.get_nameservers is not None:
            callers = next(iter(self.questions.values())).callers
            caller = next(iter(callers))
            if caller.is_in_hook:
                caller = next((each for each in callers if not each.is_in_hook), caller)
            caller.drive(self)
            return
        if self.sets is None:
            self.sets = self.sets_by_resolv_conf()
        if given := next(self.sets, None):
            self.ask(*given)
        else:
            self.no_more_sets()

    def sets_by_resolv_conf(self) -> Iterator[tuple[float, Sequence[Nameserver]]]:
        """Yields one nameserver after another, in several rounds."""
        resolver, conf, failing = self.resolver, self.resolver.conf, self.failing
        first = next(resolver.rotation) % len(conf.nameservers) if conf.rotate else 0
        for _ in range(conf.attempts):
            rest = [*conf.nameservers[first:], *conf.nameservers[:first]]
            while rest:
                nameserver = failing.choose(rest, resolver.loop.time())  # type: ignore[union-attr]
                rest.remove(nameserver)
                if any(not each.failures.is_out(nameserver) for each in self.questions.values()):
                    yield resolver.timeout or conf.timeout, (nameserver,)

    def ask(self, timeout: float, nameservers: Sequence[Nameserver]) -> None:
        """Puts all questions to a set."""
        if self.late:
            self.resolver.sockets.remove(self)
        self.state = FLIGHT['set'][self.state]
        self.timeout = timeout
        self.in_set = {}
        self.unasked = [
            (question, nameserver)
            for nameserver in nameservers
            for question in self.questions.values()
            if self.failing is None or not question.failures.is_out(nameserver)
        ]
        if self.late:
            self.go_on()
        else:
            self.resolver.sockets.enqueue(self)

    def go_on(self) -> None:
        """Asks what of the set is unasked, as far as there is room, or ends the set.

        A failure may end the flight or call this again, so that state and rest are read each time.
        """
        if self.state == 'ready':
            self.state = FLIGHT['room'][self.state]
        while self.unasked:
            question, nameserver = self.unasked[0]
            try:
                if self.late:
                    query = self.query_again(question, nameserver)
                else:
                    query = self.resolver.sockets.open(question, nameserver)
            except Exception as error:
                self.raised(error)
                return
            if query is None:
                break
            self.unasked = self.unasked[1:]
            if isinstance(query, Failure):
                self.failed(question, nameserver, query)
            else:
                self.in_set[query] = None
        if self.in_set or self.state != 'asking':
            return
        if self.unasked:
            self.wait_for_room(is_first=True)
        elif self.deadline < NEVER:
            self.end_set()
        else:  # nothing was sent: an endless hook of such sets must not stop the loop
            self.resolver.loop.call_soon(self.end_unsent_set)

    def wait_for_room(self, is_first: bool) -> None:
        """Without a socket, the rest of the set waits as a set does that was not begun."""
        self.deadline = NEVER
        self.state = FLIGHT['no room'][self.state]
        self.resolver.sockets.enqueue(self, is_first)

    def end_unsent_set(self) -> None:
        if self.state == 'asking' and not self.in_set:
            self.end_set()

    def query_again(self, question: Question, nameserver: Nameserver) -> Query | Failure | None:
        """Returns a query over a new socket or, where these are scarce, an old one to send again.

        Replies to older ones may be on their way, so that they stay open; only for a nameserver
        that was not asked the oldest is given up. None: there is no room.
        """
        sockets = self.resolver.sockets
        same = [
            query
            for query in self.late
            if query.question is question and query.nameserver == nameserver
        ]
        query: Query | Failure | None = None
        are_ample = 2 * len(sockets.poller.queries) < sockets.limit
        if not same or (are_ample and len(same) < MAX_SOCKETS_FOR_ONE):
            query = sockets.open(question, nameserver)
        if query is None and same:
            query = same[-1]
            query.state = QUERY['again'][query.state]
            del self.late[query]
            sockets.send_again(query)
        while query is None and self.late:
            self.close_query(next(iter(self.late)))
            query = sockets.open(question, nameserver)
        return query

    def sent(self, query: Query, now: float) -> None:
        query.state = QUERY['sent'][query.state]
        if query.sent_at == NEVER:
            query.sent_at = now
        if self.failing is not None:
            query.replies = self.failing.replies[query.nameserver]
        question = query.question
        question.is_asked = True
        if question.asked_at == NEVER:
            question.asked_at = now
        self.deadline = now + self.timeout  # from the last query that is sent
        poller = self.resolver.sockets.poller
        if self.deadline < poller.due:
            poller.set_timer(self.deadline)

    def no_buffer(self, query: Query) -> None:
        """Has a query that could not be sent wait for room; its time has not started."""
        self.unasked = [(query.question, query.nameserver), *self.unasked]
        self.close_query(query)
        if self.in_set:
            return
        if not self.late:
            self.wait_for_room(is_first=False)
            return
        self.give_up_oldest()
        if self.state == 'asking' and not self.in_set:  # no late answer was there
            self.go_on()

    def time_up(self, now: float) -> None:
        """Ends the set, after reading what has arrived: a late timer makes no reply a timeout."""
        self.read_all()
        if self.deadline <= now:
            self.end_set()

    def end_set(self) -> None:
        """Keeps sockets open for late answers, releases callers that have enough, and goes on."""
        self.state = FLIGHT['set over'][self.state]
        until, self.deadline = self.deadline, NEVER  # first: what is logged below may raise
        for question in self.questions.values():
            self.count_silence(question, until)
        for query in list(self.in_set):
            if query.state == 'open':  # in this very step
                self.close_query(query)
                continue
            query.state = QUERY['time up'][query.state]
            self.late = {**self.late, query: None}
            failure = Failure(ResolverTimeout, f'timed out after {self.timeout:g} s')
            self.failed(query.question, query.nameserver, failure)
        self.in_set = NOTHING
        if self.unasked:  # there were too few sockets: the other type comes first in the next set
            self.unasked = ()
            self.questions = dict(reversed(self.questions.items()))
        for question in list(self.questions.values()):
            if question.is_asked:
                question.is_asked = False
                self.let_go(question)
        if self.state == 'idle':
            self.next_set()

    def let_go(self, question: Question) -> None:
        """Releases callers that have addresses, and have waited long enough for this type."""
        enough = [caller for caller in question.callers if caller.count_vain_set()]
        if enough:
            outcome = question.failures_so_far()
            self.resolver.cache.keep(question, outcome)
            for caller in enough:
                del question.callers[caller]
                caller.settle(question.qtype, outcome)
            if not question.callers:
                self.remove([question], enough[-1])

    def no_more_sets(self) -> None:
        """Fails what has no answer, after a last look at what has arrived."""
        self.read_all()
        for question in list(self.questions.values()):
            self.finish(question, question.failures_so_far())

    def raised(self, error: Exception) -> None:
        """Ends with what a hook raised."""
        for question in self.questions.values():
            for caller in question.callers:
                caller.fail(error)
        if self.questions:  # else an answer came meanwhile
            self.remove([*self.questions.values()], caller)  # at once, so that none is asked now

    # -- Queries

    def read_all(self) -> None:
        for query in (*self.in_set, *self.late):
            query.read()

    def received(self, query: Query, found: Answer | Failure) -> None:
        """Uses what a nameserver replied."""
        nameserver, question, failing = query.nameserver, query.question, self.failing
        if failing is not None and failing.replied(nameserver):
            log(logging.WARNING, 'nameserver %s answered %s: it is back', nameserver, question)
        if isinstance(found, Failure):
            if found is TOO_LONG and not query.opt:
                self.ask_with_edns(query)
            else:
                is_too_long = query.opt and found.is_error_reply()
                self.query_failed(query, TOO_LONG if is_too_long else found)
            return
        if logger.isEnabledFor(logging.DEBUG):
            took = 1000 * (self.resolver.loop.time() - query.sent_at)
            words = found.in_words(question.asked_at)
            log(logging.DEBUG, '%s: %s %s, in %.1f ms', question, nameserver, words, took)
        if found.negative:
            # While a nameserver fails, the one that would know better may not have been asked.
            is_kept = failing is None or not failing.is_any_failing(self.resolver.loop.time())
            expires_at = found.expires_at if is_kept else -NEVER
            found = found._replace(reason=f'{nameserver} {found.reason}', expires_at=expires_at)
        self.has_answer = True
        self.finish(question, found)

    def ask_with_edns(self, query: Query) -> None:
        """Asks a nameserver once more that cut its reply to nothing (RFC 6891).

        No other query has an OPT record, which some nameservers and networks do not let pass.
        """
        question, nameserver = query.question, query.nameserver
        self.failed(question, nameserver, CUT)
        for each in (*self.in_set, *self.late):  # which would be cut as well
            if each.question is question and each.nameserver == nameserver:
                self.close_query(each)
        if self.state == 'asking':
            self.unasked = [(question, nameserver), *self.unasked]
            self.deadline = self.resolver.loop.time() + self.timeout  # it may have been now
            self.go_on()

    def query_failed(self, query: Query, failure: Failure) -> None:
        """Closes a query that came to nothing."""
        self.close_query(query)
        self.failed(query.question, query.nameserver, failure)
        if self.state == 'asking':
            self.go_on()

    def failed(self, question: Question, nameserver: Nameserver, failure: Failure) -> None:
        """Adds a failure to those of a question, which bad data end."""
        key, times = (nameserver, failure), {**question.failures.times}
        if key not in times and len(times) == MAX_FAILURES:
            times.popitem()  # the newest, so that the first ones and the last are told
        times[key] = times.get(key, 0) + 1
        is_last = failure not in (WRONG_CASE, CUT)
        last = (next(SERIAL), failure) if is_last else question.failures.last
        question.failures = Failures(times, last)
        if failure != WRONG_CASE and logger.isEnabledFor(logging.DEBUG):
            log(logging.DEBUG, '%s: %s %s', question, nameserver, failure.what)
        # No other nameserver can be expected to do better.
        if not issubclass(failure.error, (TemporaryResolverError, AnswerTooLong)):
            self.finish(question, question.failures)

    def count_silence(self, question: Question, until: float) -> None:
        """Counts the time for which nameservers of the set were waited for without a reply.

        Not if the other type of the name is answered: then something on the way drops this one. Nor
        if resolv.conf was changed meanwhile.
        """
        failing, now = self.failing, self.resolver.loop.time()
        if failing is None or failing is not self.resolver.failing:
            return
        if self.has_answer or not self.in_set:
            return
        if any(
            isinstance(self.resolver.cache.find(self.fqdn, qtype, now), Answer)
            for qtype in ADDRESSES.keys() - {question.qtype}
        ):
            return
        for query in self.in_set:
            nameserver, since = query.nameserver, query.sent_at
            if (
                query.question is question
                and query.state == 'active'
                and not query.opt  # which may not pass on the way
                and query.replies == failing.replies[nameserver]
                and failing.waited(nameserver, self.name, since, until, self.timeout)
            ):
                log(
                    logging.WARNING,
                    'nameserver %s does not answer (%s): others are asked first, and it again in '
                    '%s s',
                    nameserver,
                    question,
                    FAILING_FOR,
                )

    def give_up_oldest(self) -> None:
        """Closes the oldest socket for another flight, after reading it."""
        oldest = next(iter(self.late))
        oldest.read()
        if oldest in self.late:
            self.close_query(oldest)

    def close_query(self, query: Query) -> None:
        if query.state != 'late':
            del self.in_set[query]
        else:
            del self.late[query]
            if not self.late:  # nothing is left to be given up
                self.resolver.sockets.remove(self)
        query.state = QUERY['closed'][query.state]
        self.resolver.sockets.close(query)

    # -- Ends

    def finish(self, question: Question, outcome: Outcome) -> None:
        """Gives a question its outcome."""
        self.resolver.cache.keep(question, outcome)
        # Before its sockets are closed, so that the next name of a caller comes before those that
        # wait for their turn.
        for caller in question.callers:
            caller.settle(question.qtype, outcome)
        question.callers = NOTHING
        self.remove([question], caller)  # the last of them closes the hook

    def remove(self, questions: Sequence[Question], caller: Caller) -> None:
        """Asks questions no more. Without another one, the flight is over."""
        for question in questions:
            self.resolver.cache.end(question)
            del self.questions[question.qtype]
        if not self.questions:
            self.close(caller)
            return
        for query in (*self.in_set, *self.late):
            if query.question in questions:
                self.close_query(query)
        if self.unasked:
            self.unasked = [each for each in self.unasked if each[0] not in questions]
            self.resolver.sockets.flush_soon()  # it needs less room now
        if self.state == 'asking' and (self.unasked or not self.in_set):
            self.go_on()

    def close(self, caller: Caller) -> None:
        """Closes all queries, and drops what refers to the flight. A caller closes the hook."""
        if self.state == 'over':
            return
        if self.state != 'asking':
            self.resolver.sockets.remove(self)
        if self.state != 'in hook':
            caller.closes(self.generator)
        self.state = FLIGHT['closed'][self.state]
        self.deadline = NEVER
        for query in (*self.in_set, *self.late):
            query.state = QUERY['closed'][query.state]
            self.resolver.sockets.close(query)
        self.questions = self.in_set = self.late = NOTHING
        self.unasked = ()
        self.sets = None


# Not used by the resolver: a helper for code that reads replies itself.
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


GetHost = Callable[[bytes, TYPES], Awaitable[Any]]
# The sets of a generator: a timeout in seconds, then IP address and port of each nameserver.
GetNameservers = Callable[[bytes], AsyncGenerator[tuple[float, *tuple[tuple[Any, int], ...]], None]]
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


def search_error(
    decided: dict[bytes, Outcome], as_given: bytes, qtypes: Sequence[TYPES]
) -> ResolverError:
    """Makes the error for a name none of whose candidates has records.

    It is that of the last one that failed; else of the last one that exists; else of the name as
    given.
    """
    fqdn, outcome = max(
        reversed(decided.items()),
        key=lambda item: (
            *rank(item[1]),
            item[1].negative is NameDoesNotExist and item[0] == as_given,
        ),
    )
    message = f'{describe(fqdn, qtypes, outcome.aliases)}: '
    others = [
        f'{name_to_text(each)} ({other.reason})' for each, other in decided.items() if each != fqdn
    ]
    tried = f'; also tried, by the search list: {", ".join(others)}' if others else ''
    if isinstance(outcome, Failures):
        return outcome.error(f'{message}{outcome.reason}{tried}')
    what = 'does not exist' if outcome.negative is NameDoesNotExist else 'has no such record'
    return (outcome.negative or NoRecords)(f'{message}{what}: {outcome.reason}{tried}')


def merged(outcomes: dict[TYPES, Outcome], qtypes: Sequence[TYPES]) -> Outcome | None:
    """Returns the outcome for a name of those for its record types, in the order of the types.

    None: one is missing, or there is an alias to be followed.
    """
    found: Outcome | None = None
    for qtype in qtypes:
        outcome = outcomes.get(qtype)
        if outcome is None or not (outcome.records or outcome.negative):
            return None
        found = merge(found, outcome) if found else outcome
    return found


def to_four(ip: Any) -> Any:
    """Returns the IPv4 address that glibc takes for one of IPv6 where IPv4 alone is asked for."""
    if ip.version == 4:
        return ip
    return ip.ipv4_mapped or (ipaddress.IPv4Address(ADDRESSES[A][2]) if ip.is_loopback else ip)


def to_outcomes(found: dict[TYPES, tuple[Value, ...]]) -> dict[TYPES, Outcome]:
    """Returns what the hosts file or get_host has of a name; {} where that is nothing.

    A type that is not found beside another one is not asked for. Nothing of it is kept.
    """
    if not any(found.values()):
        return {}
    return {
        qtype: Answer(records, -NEVER)
        if records
        else Answer((), -NEVER, (), NoRecords, 'the hosts file has the other type')
        for qtype, records in found.items()
    }


class LoopResolver:
    """The state of a Resolver in one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        get_host: GetHost | None = None,
        get_nameservers: GetNameservers | None = None,
        transform_fqdn: TransformFqdn = mix_case,
        timeout: float | None = None,
        max_sockets: int = 256,
        max_cache_size: int = 10_000,
        stale_for: float = 0,
        parse_conf: Callable[[Iterable[str]], ResolvConf] = parse_resolv_conf,
    ) -> None:
        self.loop = loop
        self.get_host = get_host
        self.get_nameservers = get_nameservers
        self.transform_fqdn = transform_fqdn
        self.timeout = timeout
        self.hosts = SystemFile(HOSTS, parse_hosts)
        self.resolv_conf = SystemFile(RESOLV_CONF, parse_conf)
        self.conf = NO_SEARCH_LIST  # as it was read last
        # None: the nameservers are those of a hook.
        self.failing = FailingNameservers() if get_nameservers is None else None
        self.rotation = itertools.count()
        self.cache = Cache(max_cache_size, stale_for)
        self.warn_of_stale_at = -NEVER
        self.sockets = Sockets(Poller(loop), max_sockets)

    def recall(
        self, name: str, qtypes: tuple[TYPES, ...], now: float
    ) -> tuple[Value, ...] | Caller:
        """Returns the records of a name for which nothing has to be awaited, or a caller for it."""
        conf = self.read_conf(now) if self.get_nameservers is None else NO_SEARCH_LIST
        as_given, fqdns, literal = candidates(name, conf.search, conf.ndots)
        if literal is not None:
            if TYPE_OF[literal.version] in qtypes:
                return (literal,)
            raise NoRecords(
                f'{describe(as_given, qtypes)}: an IPv{literal.version} address has nothing else'
            )
        if self.get_host is not None:
            return Caller(qtypes, as_given, fqdns, {})
        # The hosts file may have the name as given, which comes before the search list.
        if as_given is not fqdns[0] and (found := self.find_in_hosts(as_given, qtypes, now)):
            return merged(found, qtypes).records  # type: ignore[union-attr]
        outcomes = self.known(fqdns[0], qtypes, now, len(qtypes) > 1)
        if outcomes and (outcome := merged(outcomes, qtypes)) and outcome.records:
            if self.cache.stale_for:
                self.cache.keep_stale(fqdns, fqdns[0], outcomes)
            return outcome.records
        return Caller(qtypes, as_given, fqdns, outcomes)

    def read_conf(self, now: float) -> ResolvConf:
        """Returns what resolv.conf says. Where it names others, what was known is forgotten."""
        before = self.conf
        may_change = before.reload or self.resolv_conf.version is None
        if may_change and (conf := self.resolv_conf.read(now)) is not before:
            self.conf = conf
            for text in conf.unusual:
                log(logging.WARNING, '%s: %s', RESOLV_CONF, text)
            if before is not NO_SEARCH_LIST and conf[:2] != before[:2]:
                self.cache.clear()
                self.failing = FailingNameservers()
        return self.conf

    def known(
        self, fqdn: bytes, qtypes: Sequence[TYPES], now: float, is_of_both: bool
    ) -> dict[TYPES, Outcome]:
        """Returns what is known of a name, by record type: by the hosts file, or by the cache."""
        if (
            self.get_host is None
            and fqdn in self.hosts.read(now)
            and (found := self.find_in_hosts(fqdn, qtypes, now))
        ):
            return found
        if fqdn.rpartition(b'.')[2] in SPECIAL_DOMAINS:
            return {qtype: answer_special(fqdn, qtype, now) for qtype in qtypes}
        outcomes: dict[TYPES, Outcome] = {}
        for qtype in qtypes:
            outcome = self.cache.find(fqdn, qtype, now)
            if qtype == AAAA and self.conf.no_aaaa:
                outcome = Answer(
                    (), now, (), NameDoesNotExist if is_of_both else NoRecords, NO_AAAA
                )
            # That a type is missing counts only beside the other one.
            if outcome is not None and (is_of_both or isinstance(outcome, Answer)):
                outcomes[qtype] = outcome
        return outcomes

    def find_in_hosts(
        self, fqdn: bytes, qtypes: Sequence[TYPES], now: float
    ) -> dict[TYPES, Outcome]:
        """Returns what the hosts file has of a name; {} where that is nothing."""
        if fqdn not in (hosts := self.hosts.read(now)):
            return {}
        ips = keep_valid(ipaddress.ip_address, hosts[fqdn])
        if tuple(qtypes) == (A,):
            ips = [to_four(ip) for ip in ips]
        ips = list(dict.fromkeys(ips))
        return to_outcomes(
            {
                qtype: tuple([to_value(ip, now) for ip in ips if TYPE_OF[ip.version] == qtype])
                for qtype in qtypes
            }
        )

    async def ask_host(self, fqdn: bytes, qtypes: Iterable[TYPES]) -> dict[TYPES, Outcome]:
        """Returns what get_host has of a name; {} where that is nothing."""
        found: dict[TYPES, tuple[Value, ...]] = {}
        for qtype in qtypes:
            coroutine = self.get_host(fqdn, qtype)  # type: ignore[misc]
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
            except TypeError as error:
                raise ResolverError(
                    f'{describe(fqdn, [qtype])}: get_host gave {given!r}, where an ipaddress '
                    f'object, a tuple of them or None is needed: {error}'
                ) from error
            # A hook that does not look at the type gives the same for both.
            found[qtype] = () if records in found.values() else records
        return to_outcomes(found)

    async def resolve(self, caller: Caller) -> tuple[Value, ...]:
        """Returns the records of a name for which something has to be awaited."""
        qtypes = caller.qtypes
        decided: dict[bytes, Outcome] = {}
        cache, times_cleared = self.cache, self.cache.times_cleared
        outcomes: dict[TYPES, Outcome] | None = caller.outcomes
        if self.get_host is not None:
            outcomes = None  # before the hook was asked
            if caller.as_given is not caller.fqdns[0] and (
                found := await self.ask_host(caller.as_given, qtypes)
            ):
                return merged(found, qtypes).records  # type: ignore[union-attr]
        for fqdn in caller.fqdns:
            outcomes = await self.find(caller, fqdn, qtypes, outcomes)
            while (outcome := merged(outcomes, qtypes)) is None:
                await self.follow(caller, fqdn, outcomes)
            if cache.stale_for and times_cleared == cache.times_cleared:
                cache.keep_stale(caller.fqdns, fqdn, outcomes)
            if outcome.records:
                return outcome.records
            decided[fqdn] = outcome
            failures = [each for each in outcomes.values() if isinstance(each, Failures)]
            if not all(each.are_error_replies() for each in failures):
                break  # the truth is not known
            outcomes = None
        try:
            raise search_error(decided, caller.as_given, qtypes)
        except TemporaryResolverError as error:
            if cache.stale_for and (records := self.find_stale(caller, error)):
                return records
            raise

    def find_stale(self, caller: Caller, error: ResolverError) -> tuple[Value, ...]:
        """Returns the records that a name had before, to be given in place of a temporary error."""
        now = self.loop.time()
        records = self.cache.find_stale(caller.fqdns, caller.qtypes, now)
        if records and now >= self.warn_of_stale_at:
            self.warn_of_stale_at = now + FAILING_FOR
            log(logging.WARNING, '%s; what was true before is given (stale_for)', error)
        return records

    async def follow(self, caller: Caller, fqdn: bytes, outcomes: dict[TYPES, Any]) -> None:
        """Puts what the end of an alias has in place of the alias, for all types that have it."""
        # Nearly always both types have the same canonical name, and are asked together.
        ends_of = {
            qtype: outcome.aliases[-1]
            for qtype, outcome in outcomes.items()
            if not (outcome.records or outcome.negative)
        }
        canonical = next(iter(ends_of.values()))
        together = [qtype for qtype, end in ends_of.items() if end == canonical]
        is_beside_addresses = any(outcome.records for outcome in outcomes.values())
        ends: Any = await self.find(caller, canonical, together, None, is_beside_addresses)
        for qtype in together:
            outcomes[qtype] = outcome = joined(ends[qtype], outcomes[qtype])
            if fault := find_fault([fqdn, *outcome.aliases]):
                failure = Failure(AliasChainTooLong, f'gave {fault}')
                outcomes[qtype] = Failures(
                    {('the nameservers', failure): 1}, (next(SERIAL), failure)
                )

    async def find(
        self,
        caller: Caller,
        fqdn: bytes,
        qtypes: Sequence[TYPES],
        outcomes: dict[TYPES, Outcome] | None,
        is_beside_addresses: bool = False,
    ) -> dict[TYPES, Outcome]:
        """Returns the outcomes for a name, waiting for those that are not known.

        `outcomes`: what is known. None: that is to be found out. `is_beside_addresses`: there are
        some of the other type already, by another name.
        """
        if outcomes is None:
            outcomes = (
                await self.ask_host(fqdn, qtypes) if self.get_host is not None else {}
            ) or self.known(fqdn, qtypes, self.loop.time(), len(caller.qtypes) > 1)
            caller.begin(outcomes, is_beside_addresses)
        if outcomes and len(outcomes) == len(qtypes):
            return outcomes
        try:
            self.join(caller, fqdn, qtypes)
            while caller.wanted and caller.raised is None:
                if caller.to_drive:
                    await caller.await_hooks()
                else:
                    await caller.sleep(self.loop)
        finally:
            if caller.wanted or caller.to_drive:
                caller.leave()
            if caller.to_close:
                await caller.close_hooks()
        if caller.raised is not None:
            caller.raise_error_of_hook()
        return caller.outcomes

    def join(self, caller: Caller, fqdn: bytes, qtypes: Sequence[TYPES]) -> None:
        """Has a caller wait for what is in flight, and begins a flight for the rest."""
        rest = []
        for qtype in qtypes:
            if qtype in caller.outcomes:
                continue
            if question := self.cache.in_flight.get((fqdn, qtype)):
                question.flight.join(question, caller)
            else:
                rest.append(qtype)
        if rest:
            self.sockets.admit(Flight(self, fqdn, rest, caller), caller.has_waited)


def Resolver(  # noqa: N802
    get_host: GetHost | None = None,
    get_nameservers: GetNameservers | None = None,
    transform_fqdn: TransformFqdn = mix_case,
    *,
    timeout: float | None = None,
    max_sockets: int = 256,
    max_cache_size: int = 10_000,
    stale_for: float = 0,
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
        its order is kept. It is awaited in the task of one of the look-ups that wait for the name,
        which returns an answer that comes meanwhile when the hook goes on.
    transform_fqdn: returns the name of a query with the case of its letters changed. By default the
        case is random, against forged replies; `lambda fqdn: fqdn` leaves it as it is.
    timeout: seconds for each try of a nameserver of resolv.conf, in place of its own (0.5).
    max_sockets: how many sockets, one for each query, are open at once in a loop. Further look-ups
        wait, first come, first served.
    max_cache_size: how many answers are cached; the least recently used goes first.
    stale_for: seconds after its expiry for which an answer is still returned where a look-up would
        raise TemporaryResolverError (RFC 8767). Its `expires_at` is in the past.

    Raises ValueError for a number that makes no sense, TypeError for a hook that is no function.
    """
    if not isinstance(max_sockets, int) or max_sockets < 1:
        raise ValueError(f'max_sockets must be a whole number of at least 1, not {max_sockets!r}')
    for option, number in ('max_cache_size', max_cache_size), ('stale_for', stale_for):
        if not isinstance(number, (int, float)) or not number >= 0:
            raise ValueError(f'{option} must be a number of at least 0, not {number!r}')
    if timeout is not None and get_nameservers is not None:
        raise ValueError('timeout is for resolv.conf: get_nameservers yields its own timeouts')
    if timeout is not None and not (isinstance(timeout, (int, float)) and 0 < timeout < math.inf):
        raise ValueError(f'timeout must be a number of seconds above 0, not {timeout!r}')
    # `mix_case` stands in for a hook that is not given.
    for hook in (get_host or mix_case, get_nameservers or mix_case, transform_fqdn):
        if not callable(hook):
            raise TypeError(
                f'get_host, get_nameservers and transform_fqdn must be functions, not {hook!r}'
            )

    return in_each_loop(
        lambda loop: LoopResolver(
            loop,
            get_host,
            get_nameservers,
            transform_fqdn,
            timeout,
            max_sockets,
            max_cache_size,
            stale_for,
        )
    )


def in_each_loop(
    new: Callable[[asyncio.AbstractEventLoop], LoopResolver],
) -> tuple[Resolve, Callable[[], None]]:
    """Returns `resolve` and `clear_cache` over a LoopResolver for each loop that they run in."""
    in_loop: dict[asyncio.AbstractEventLoop, LoopResolver] = {}

    def start(loop: asyncio.AbstractEventLoop) -> LoopResolver:
        for other, resolver in list(in_loop.items()):  # a copy: other threads may have loops
            if not other.is_running() and (other.is_closed() or not resolver.cache.in_flight):
                in_loop.pop(other, None)
                resolver.sockets.poller.leave_if_idle()
        in_loop[loop] = resolver = new(loop)
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
        if not isinstance(name, str):
            raise TypeError(f'name must be a str, not {name!r}')
        try:
            qtypes = ASKABLE[qtype]
        except (KeyError, TypeError):
            raise ValueError(
                f'{qtype!r} is not a supported record type: use '
                f'TYPES.{", TYPES.".join(TYPES.__members__)} or a tuple of A and AAAA'
            ) from None
        try:
            found = resolver.recall(name, qtypes, loop.time())
            return found if isinstance(found, tuple) else await resolver.resolve(found)
        except FileShortage as error:
            raise TemporaryResolverError(
                f'{describe(to_fqdn(name), qtypes)}: {error}'
            ) from error.__cause__

    def clear_cache() -> None:
        """Empties the cache. A query in flight still answers those that wait for it already."""
        for resolver in list(in_loop.values()):
            resolver.cache.clear()

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

    By `install(resolve)`, all that connects on a loop uses it. The C library does what needs no
    look-up: no host, IP addresses in any spelling, services, and the errors for a bad family, type,
    service or flag. It also differs:

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
    infos = find_without_look_up(name, port, family, type, proto, flags)
    if infos is not None:
        return infos
    qtypes = FAMILIES.get(family, FAMILIES[socket.AF_UNSPEC])
    try:
        entries = {qtype: find_entries(qtype, port, family, type, proto, flags) for qtype in qtypes}
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_SERVICE, f'{port!r} is not a service') from error
    now = int(asyncio.get_running_loop().time())
    if flags & socket.AI_ADDRCONFIG:
        configured = tuple(qtype for qtype in qtypes if is_configured(qtype, now))
        if family and not configured:
            raise socket.gaierror(socket.EAI_NONAME, f'{name}: this machine has no such addresses')
        qtypes = configured or qtypes
    try:
        found = await resolve(name, qtypes if len(qtypes) > 1 else qtypes[0])  # type: ignore[arg-type]
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
    if len(qtypes) > 1:
        infos = in_order(infos, now)
    if flags & socket.AI_CANONNAME:
        infos[0] = (*infos[0][:3], name, infos[0][4])
    return infos


def find_without_look_up(
    name: Any, port: Any, family: int, kind: int, proto: int, flags: int
) -> list[tuple[Any, ...]] | None:
    """Returns what the C library has of no host and of addresses; None: it is to be looked up."""
    is_asked = isinstance(name, str) and not flags & socket.AI_NUMERICHOST
    try:
        text = to_printable(name) if name and isinstance(name, str) else name
    except InvalidName as error:
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from error
    if text and text != '*' and is_asked and not text[:1].isdigit() and ':' not in text:
        return None
    try:
        return socket.getaddrinfo(text, port, family, kind, proto, flags | socket.AI_NUMERICHOST)
    except (UnicodeError, socket.gaierror) as error:
        code = error.errno if isinstance(error, OSError) else socket.EAI_NONAME
        if is_asked and code == socket.EAI_NONAME:
            return None
        raise socket.gaierror(
            code, getattr(error, 'strerror', f'{name!r} is not an IP address')
        ) from error


def in_order(infos: list[tuple[Any, ...]], now: int) -> list[tuple[Any, ...]]:
    """Puts IPv6 first if there is a route to its first address, else last."""
    six = next((info[4] for info in infos if info[0] == socket.AF_INET6), None)
    last = socket.AF_INET if six and has_route(six[0], six[3], now) else socket.AF_INET6
    return sorted(infos, key=lambda info: info[0] == last)


def to_printable(name: str) -> str:
    """Returns a name as it may be handed to the C library. Raises InvalidName.

    CPython would cut it at a NUL, and take a time quadratic in its length to encode what is not
    ASCII.
    """
    is_safe = len(name) <= MAX_NAME and name.isascii() and name.isprintable()
    return name if is_safe else to_fqdn(name).decode()


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
        for kind, protocol, port in entries.get(TYPE_OF[address.version], ()):
            yield family, kind, protocol, '', (text, port, *rest)


@functools.lru_cache(maxsize=1000, typed=True)
def find_entries(
    qtype: TYPES, port: Any, family: int, kind: int, proto: int, flags: int
) -> list[tuple[Any, ...]]:
    """Returns socket type, protocol and port of what the C library has for each address.

    Raises socket.gaierror for a family that is not supported, and for what does not go together.
    """
    plain = flags & ~int(socket.AI_ADDRCONFIG | socket.AI_CANONNAME) | socket.AI_NUMERICHOST
    infos = socket.getaddrinfo(ADDRESSES[qtype][2], port, family, kind, proto, plain)
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
                ADDRESSES[qtype][2],
                None,
                family,
                flags=socket.AI_NUMERICHOST | socket.AI_ADDRCONFIG,
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


def install(resolve: Resolve, loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Has a loop, by default the running one, find names by `resolve` when it connects.

    Whatever calls `loop.getaddrinfo` gets the addresses of `resolve`, as do `create_connection` and
    all that is built on it. On uvloop, whose `create_connection` never calls the method, that is
    replaced too, by one that tries one address after the other. There, the C library still looks
    up the names that are given to `create_datagram_endpoint`, `create_server` and `local_addr`.

    Raises RuntimeError where no loop is given and none runs.
    """
    loop = loop or asyncio.get_running_loop()
    loop.getaddrinfo = functools.partial(getaddrinfo, resolve)  # type: ignore[method-assign]
    if not isinstance(loop, asyncio.BaseEventLoop):
        loop.create_connection = functools.partial(create_connection, loop)  # type: ignore[method-assign]


async def create_connection(
    loop: Any,
    protocol_factory: Any,
    host: Any = None,
    port: Any = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    server_hostname: str | None = None,
    **options: Any,
) -> Any:
    """Does what the loop's own method does, with names looked up by its `getaddrinfo`."""
    import ssl

    factory = functools.cache(protocol_factory)  # called once, however many addresses are tried
    connect = functools.partial(type(loop).create_connection, loop, factory, **options)
    if host is None:  # there is a socket, or an error to be raised
        return await connect(
            host, port, family=family, proto=proto, flags=flags, server_hostname=server_hostname
        )
    if options.get('ssl') and server_hostname is None:
        server_hostname = host
    errors: list[OSError] = []
    infos = await loop.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags
    )
    for kind, _, protocol, _, (ip, number, *rest) in infos:
        text = f'{ip}%{rest[1]}' if rest and rest[1] else ip
        try:
            return await connect(
                text, number, family=kind, proto=protocol, server_hostname=server_hostname
            )
        except (ssl.SSLError, ConnectionAbortedError, ConnectionResetError):
            raise  # of TLS, with a peer that was reached
        except OSError as error:
            errors.append(error)
    if len(set(map(str, errors))) == 1:
        raise errors[0]
    raise OSError(f'Multiple exceptions: {", ".join(map(str, errors))}') from errors[-1]


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
IP_AND_PORT = re.compile(r'(?:\[(.*)\]|([^:]*)|(.*))(?::([0-9]+))?', re.DOTALL)
OTHER_TYPES = frozenset(['ANY', 'CAA', 'HTTPS', 'MX', 'NS', 'PTR', 'SOA', 'SRV', 'SVCB'])


def new_parser() -> Any:
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
        help='to ask in place of those of resolv.conf, whose search list and options are kept; '
        '[IP]:PORT for IPv6; again for more',
    )
    parser.add_argument('--timeout', type=float, metavar='SECONDS', help='for each try (0.5)')
    parser.add_argument(
        '-v', dest='verbose', action='store_true', help='print what is asked of which nameserver'
    )
    parser.add_argument('--version', action='version', version=__version__)
    return parser


def parse_arguments(args: Sequence[str] | None) -> Any:
    parser = new_parser()
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
    if name in OTHER_TYPES or (is_one_of_several and name.upper() in OTHER_TYPES):
        raise ValueError(
            f'{name} is not a type that can be asked for: write one of '
            f'{", ".join(TYPES.__members__)}, or {name}. with a final dot if it is a name'
        )


def parse_nameserver(word: str) -> Nameserver:
    *ips, port = IP_AND_PORT.fullmatch(word).groups()  # type: ignore[union-attr]
    ip, _, end = word.rpartition(':')
    if end == '53' and keep_valid(ipaddress.IPv6Address, [ip]):
        raise ValueError(
            f'--nameserver {word} may be meant in two ways: write [{ip}]:53 for the port, or '
            f'[{word}] for the address'
        )
    try:
        return to_nameserver(next(filter(None, ips), ''), int(port or 53))
    except ValueError as error:
        raise ValueError(
            f'--nameserver {word!r} is not IP, IP:PORT or [IP]:PORT of a nameserver: {error}'
        ) from error


def resolver_of(timeout: float | None, nameservers: Sequence[Nameserver]) -> Resolve:
    """Returns the `resolve` of the command. Raises ValueError for a bad timeout."""
    resolve = Resolver(timeout=timeout)[0]

    def parse_conf(lines: Iterable[str]) -> ResolvConf:
        return parse_resolv_conf(lines)._replace(nameservers=tuple(nameservers), unusual=())

    new = functools.partial(LoopResolver, timeout=timeout, parse_conf=parse_conf)
    return in_each_loop(new)[0] if nameservers else resolve


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
        qtype = TYPE_OF.get(getattr(value, 'version', 0), asked)
        ttl = None if value.expires_at == NEVER else max(0, math.ceil(value.expires_at - now))
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
    """Runs the command, which a signal or a full disk ends without a traceback."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, 'SIGPIPE'):  # pragma: no branch (Windows has none)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.stderr = sys.stderr or io.StringIO()  # `print` takes None for standard output
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, 'standard output is closed')
        status = main()
        sys.stdout.flush()
    except OSError as error:  # the buffer of standard output must not be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(f'The command failed: {error}', file=sys.stderr)
        status = 2
    sys.exit(status)


if __name__ == '__main__':
    run()
