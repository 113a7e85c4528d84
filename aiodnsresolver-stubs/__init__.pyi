import asyncio
import enum
import ipaddress
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, overload, type_check_only

from typing_extensions import disjoint_base

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

__version__: Final[str]

class TYPES(enum.IntEnum):
    A = 1
    CNAME = 5
    TXT = 16
    AAAA = 28

QUESTION: Final = 0
RESPONSE: Final = 1

class QuestionRecord(NamedTuple):
    name: bytes
    qtype: int
    qclass: int

class ResourceRecord(NamedTuple):
    name: bytes
    qtype: int
    qclass: int
    ttl: int
    rdata: bytes

class Message(NamedTuple):
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

class ResolverError(Exception): ...
class InvalidName(ResolverError, ValueError): ...
class DoesNotExist(ResolverError): ...
class NameDoesNotExist(DoesNotExist): ...
class NoRecords(DoesNotExist): ...
class TemporaryResolverError(ResolverError): ...
class ResolverTimeout(TemporaryResolverError, asyncio.TimeoutError): ...
class NameserverRefused(TemporaryResolverError, ConnectionRefusedError): ...
class NameserverUnreachable(TemporaryResolverError, OSError): ...

class ResponseCodeError(TemporaryResolverError):
    rcode: int

class AnswerTooLong(ResolverError): ...
class BadAddress(ResolverError, ipaddress.AddressValueError): ...
class AliasChainTooLong(ResolverError): ...
class MalformedMessage(ResolverError, ValueError): ...
class PointerLoop(MalformedMessage): ...

class IPv4AddressExpiresAt(ipaddress.IPv4Address):
    expires_at: float
    def __init__(self, address: object, expires_at: float) -> None: ...
    def __add__(self, other: int) -> IPv4AddressExpiresAt: ...
    def __sub__(self, other: int) -> IPv4AddressExpiresAt: ...

class IPv6AddressExpiresAt(ipaddress.IPv6Address):
    expires_at: float
    def __init__(self, address: object, expires_at: float) -> None: ...
    def __add__(self, other: int) -> IPv6AddressExpiresAt: ...
    def __sub__(self, other: int) -> IPv6AddressExpiresAt: ...

if sys.version_info >= (3, 12):
    class BytesExpiresAt(bytes):
        expires_at: float
        def __new__(cls, value: bytes, expires_at: float) -> BytesExpiresAt: ...

else:
    @disjoint_base  # the layout of its instances (PEP 800)
    class BytesExpiresAt(bytes):
        expires_at: float
        def __new__(cls, value: bytes, expires_at: float) -> BytesExpiresAt: ...

_IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Address: TypeAlias = IPv4AddressExpiresAt | IPv6AddressExpiresAt

GetHost: TypeAlias = Callable[
    [bytes, TYPES], Awaitable[_IP | bytes | tuple[_IP | bytes, ...] | list[_IP] | None]
]
# Each set: a timeout in seconds, then IP address and port of one nameserver or more.
GetNameservers: TypeAlias = Callable[
    [bytes], AsyncGenerator[tuple[float, *tuple[tuple[_IP | str, int], ...]]]
]
TransformFqdn: TypeAlias = Callable[[bytes], bytes]

class Resolve(Protocol):
    @overload
    def __call__(
        self, name: str, qtype: Literal[TYPES.A, 1], /
    ) -> Awaitable[tuple[IPv4AddressExpiresAt, ...]]: ...
    @overload
    def __call__(
        self, name: str, qtype: Literal[TYPES.AAAA, 28], /
    ) -> Awaitable[tuple[IPv6AddressExpiresAt, ...]]: ...
    @overload
    def __call__(
        self, name: str, qtype: Literal[TYPES.TXT, TYPES.CNAME, 16, 5], /
    ) -> Awaitable[tuple[BytesExpiresAt, ...]]: ...
    @overload
    def __call__(
        self, name: str, qtype: Literal[TYPES.A, TYPES.AAAA] | tuple[TYPES, ...], /
    ) -> Awaitable[tuple[_Address, ...]]: ...
    @overload
    def __call__(self, name: str, qtype: TYPES, /) -> Awaitable[tuple[Any, ...]]: ...

# What Resolver() returns: the same, with the coroutine that a task can be made of.
@type_check_only
class _Resolve(Protocol):
    @overload
    def __call__(
        self, name: str, qtype: Literal[TYPES.A, 1]
    ) -> Coroutine[Any, Any, tuple[IPv4AddressExpiresAt, ...]]: ...
    @overload
    def __call__(
        self, name: str, qtype: Literal[TYPES.AAAA, 28]
    ) -> Coroutine[Any, Any, tuple[IPv6AddressExpiresAt, ...]]: ...
    @overload
    def __call__(
        self, name: str, qtype: Literal[TYPES.TXT, TYPES.CNAME, 16, 5]
    ) -> Coroutine[Any, Any, tuple[BytesExpiresAt, ...]]: ...
    @overload
    def __call__(
        self, name: str, qtype: Literal[TYPES.A, TYPES.AAAA] | tuple[TYPES, ...]
    ) -> Coroutine[Any, Any, tuple[_Address, ...]]: ...
    @overload
    def __call__(self, name: str, qtype: TYPES) -> Coroutine[Any, Any, tuple[Any, ...]]: ...

def Resolver(
    get_host: GetHost | None = None,
    get_nameservers: GetNameservers | None = None,
    transform_fqdn: TransformFqdn = ...,
    *,
    timeout: float | None = None,
    max_sockets: int = 256,
    max_cache_size: int = 10_000,
    stale_for: float = 0,
) -> tuple[_Resolve, Callable[[], None]]: ...
async def getaddrinfo(
    resolve: Resolve,
    host: bytes | str | None,
    port: bytes | str | int | None,
    *,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[tuple[Any, ...]]: ...
def install(resolve: Resolve, loop: asyncio.AbstractEventLoop | None = None) -> None: ...
def mix_case(fqdn: bytes) -> bytes: ...
def pack(message: Message) -> bytes: ...
def parse(data: bytes) -> Message: ...
async def recvfrom(
    loop: asyncio.AbstractEventLoop, socks: Sequence[socket.socket], max_bytes: int
) -> tuple[bytes, Any]: ...
