"""Measures aiodnsresolver beside what else asyncio programs look names up with, on loopback, on Linux: `python benchmark.py --help`.

An NSD of our own, on the last core, has a wildcard zone. Each measurement runs in a process of its own, with all its threads on the
first core; the peers take turns, another of them being first in each round, and medians are shown. A round that was slow, by a loop of
plain Python that is timed before and after, is run again, up to two more times. All peers are given the same nameserver, timeout and
tries by their arguments, aiodnsresolver by a hook; in the rows "by resolv.conf" and "one of two nameservers dead", and getaddrinfo
always, by that file, as services do, at port 53. Answers are checked after the clock has stopped; what is wrong or missing counts as an
error, CPU and latencies are for each right one, and who has errors has no ratio. "queries" are those that NSD counts for a look-up,
"spread" is how far the middle half of the rounds is apart, "ratio" is to the first line of the row. However many look-ups are in
flight, aiodnsresolver has at most 256 sockets open, its default, which shows in its memory too, and getaddrinfo as many threads as
asyncio gives it. In the row of a dead nameserver each has its own defaults, as in a service, and the first look-up, by which some find
out, is not counted.
"""

import argparse
import asyncio
import collections
import contextlib
import ctypes
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

TIMEOUT, TRIES = 2, 5
LIMIT = 120  # seconds for the look-ups of a measurement
ADDRESS, ADDRESS_6 = '127.9.9.9', '2001:db8::9'  # what every name of the zone has
NAME = 'host-{}.service.example.com'
ALIASES = ''.join(f'chain{i} 0 CNAME chain{i + 1}\n' for i in range(1, 5))
ZONE = f'$TTL 3600\n@ SOA ns mail 1 3600 600 86400 60\n@ NS ns\n* A {ADDRESS}\n* AAAA {ADDRESS_6}\n{ALIASES}'
CLONE_NEWNS = 0x20000  # of <sched.h>, for a mount namespace
SYSTEM, DEAD = '127.8.15.53', '127.8.15.54'  # nameservers for those who can only be given a resolv.conf, which has no port but 53
RESOLV_CONF = f'nameserver {SYSTEM}\noptions timeout:{TIMEOUT} attempts:{TRIES}\n'
OURS, PUBLISHED, THREADS, FLOOR = 'aiodnsresolver', 'aiodnsresolver 0.0.157', 'getaddrinfo in threads', 'floor: poller of its own'


# --- The peers: each makes a function of a name, given a nameserver or, for None, by the system's resolv.conf ---------------------------


def resolve_of(server, **options):
    import aiodnsresolver

    async def get_nameservers(*_):
        for _ in range(TRIES):
            yield TIMEOUT, server

    resolve, _ = aiodnsresolver.Resolver(**({'get_nameservers': get_nameservers} if server else {}), **options)
    return resolve, aiodnsresolver.TYPES


def ours(server, both=False, **options):
    resolve, types = resolve_of(server, **options)
    qtype = (types.A, types.AAAA) if both else types.A
    return lambda name: resolve(name, qtype)


def published(server, both=False):
    resolve, types = resolve_of(server)
    if both:
        return lambda name: asyncio.gather(resolve(name, types.A), resolve(name, types.AAAA))
    return lambda name: resolve(name, types.A)


def aiodns(server, both=False):
    import aiodns

    options = {'nameservers': [server[0]], 'udp_port': server[1], 'timeout': TIMEOUT, 'tries': TRIES} if server else {}
    resolver = aiodns.DNSResolver(**options)
    if both:
        return lambda name: resolver.getaddrinfo(name, socket.AF_UNSPEC, type=socket.SOCK_STREAM)
    return lambda name: resolver.query_dns(name, 'A')


def dnspython(server, both=False):
    import dns.asyncresolver

    resolver = dns.asyncresolver.Resolver(configure=not server)
    resolver.cache = dns.resolver.LRUCache(1_000_000)
    if server:
        resolver.nameservers, resolver.port, resolver.timeout, resolver.lifetime = [server[0]], server[1], TIMEOUT, TIMEOUT * TRIES
    if both:
        return lambda name: asyncio.gather(*(resolver.resolve(name, qtype, search=False) for qtype in ('A', 'AAAA')))
    return lambda name: resolver.resolve(name, 'A', search=False)


def async_dns(server):
    import async_dns.core
    import async_dns.resolver

    client, address = async_dns.resolver.DNSClient(TIMEOUT * TRIES), async_dns.core.Address.parse('{}:{}'.format(*server))
    return lambda name: client.query(name, async_dns.core.types.A, address)


def getaddrinfo(_, both=False):
    loop, family = asyncio.get_running_loop(), socket.AF_UNSPEC if both else socket.AF_INET
    return lambda name: loop.getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)


def floor_poller(server):
    """What asyncio needs at least for a datagram each way over a new socket, with a poller of its own: no DNS but a question."""
    import select

    loop, epoll, futures = asyncio.get_running_loop(), select.epoll(), {}

    def dispatch():
        for fd, _ in epoll.poll(0):
            futures.pop(fd).set_result(None)

    loop.add_reader(epoll.fileno(), dispatch)

    def watch(fd, future):
        futures[fd] = future
        epoll.register(fd, select.EPOLLIN)

    return functools.partial(ask_bare, server, watch, lambda fd: None)


def floor_reader(server):
    """The same, with the loop's own poller."""
    loop = asyncio.get_running_loop()
    return functools.partial(ask_bare, server, lambda fd, future: loop.add_reader(fd, future.set_result, None), loop.remove_reader)


async def ask_bare(server, watch, forget, name):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(server)
        question = b''.join(bytes([len(label)]) + label for label in name.encode().split(b'.'))
        sock.send(b'\1\2\1\0\0\1\0\0\0\0\0\0' + question + b'\0\0\1\0\1')
        future = asyncio.get_running_loop().create_future()
        fd = sock.fileno()
        watch(fd, future)
        try:
            await future
        finally:
            forget(fd)
        return sock.recv(512)


PEERS = {
    OURS: ours,
    'aiodns': aiodns,
    'dnspython': dnspython,
    'async_dns': async_dns,
    PUBLISHED: published,  # from another directory, that comes first
    THREADS: getaddrinfo,
    FLOOR: floor_poller,
    'floor: add_reader': floor_reader,
}
THREADLESS = [peer for peer in PEERS if peer != THREADS]
RESOLVERS = [peer for peer in THREADLESS if 'floor' not in peer]
CACHING = [peer for peer in RESOLVERS if peer != 'async_dns']


def is_right(answer, both=False):
    """Whether what a look-up came to, with whichever peer, holds the address, or those of both families."""
    if isinstance(answer, bytes):
        return socket.inet_aton(ADDRESS) in answer
    if isinstance(answer, Exception):
        return False
    text = text_of(answer)
    return ADDRESS in text and (not both or ADDRESS_6 in text)


def text_of(answer):
    records = getattr(answer, 'answer', None) or getattr(answer, 'an', None) or getattr(answer, 'nodes', None) or answer
    nested = (tuple, list)
    return ''.join(
        text_of(record) if isinstance(record, nested) or hasattr(record, 'rrset') else str(getattr(record, 'data', record))
        for record in records
    )


# --- The measurements, each in a process of its own; "asked" is how many look-ups there were in all ------------------------------------


async def look_all_up(look_up, names, in_flight, both=False):
    waiting, answers, latencies = iter(names), [], []

    async def worker():
        for name in waiting:
            began = time.perf_counter()
            try:
                answers.append(await look_up(name))
            except Exception as error:
                answers.append(error)
            latencies.append(time.perf_counter() - began)

    cpu, wall = time.process_time(), time.perf_counter()
    workers = [asyncio.ensure_future(worker()) for _ in range(min(in_flight, len(names)))]
    await asyncio.wait(workers, timeout=LIMIT)  # a floor waits for ever for a datagram that was lost
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    times = sorted(latency for answer, latency in zip(answers, latencies, strict=True) if is_right(answer, both))
    result = {'per second': len(times) / wall, 'errors': len(names) - len(times)}
    if not times:
        return result
    centiles = {f'p{percent} ms': times[len(times) * percent // 100] * 1e3 for percent in (50, 99)}
    return {**result, 'CPU µs': cpu / len(times) * 1e6, **centiles}


async def uncached(make, server, in_flight, total, warm_up=100, name=NAME, both=False):
    look_up, names = make(server, both) if both else make(server), [name.format(i) for i in range(warm_up + total)]
    if warm_up:
        await look_all_up(look_up, names[:warm_up], min(in_flight, 100), both)
    return {**await look_all_up(look_up, names[warm_up:], in_flight, both), 'asked': len(names)}


async def surface(_, server, total):
    """What `getaddrinfo` costs more than `resolve`, for a cached name of both families."""
    import aiodnsresolver

    (resolve, types), name = resolve_of(server), NAME.format(0)
    families = types.AAAA, types.A
    calls = [lambda: resolve(name, families), lambda: aiodnsresolver.getaddrinfo(resolve, name, 80, type=socket.SOCK_STREAM)]
    times = []
    for call in calls:
        answer = await call()
        began = time.process_time()
        for _ in range(total):
            answer = await call()
        times.append((time.process_time() - began) / total * 1e6)
    return {'CPU µs': times[1] - times[0], 'errors': 0 if ADDRESS_6 in text_of(answer) else total, 'asked': total}


async def imported(make, _):
    """The CPU time of an import after that of asyncio, with compiled files."""
    began = time.process_time()
    importlib.import_module(
        {'ours': 'aiodnsresolver', 'published': 'aiodnsresolver', 'dnspython': 'dns.asyncresolver'}.get(make.__name__, make.__name__)
    )
    return {'CPU µs': (time.process_time() - began) * 1e6, 'errors': 0, 'asked': 1}


async def cached(make, server, total, host_lines=0):
    with tempfile.NamedTemporaryFile('w') as file:
        if host_lines:
            file.writelines(f'10.{i >> 16}.{i >> 8 & 255}.{i & 255} host{i}.lan\n' for i in range(host_lines))
            file.flush()
            __import__('aiodnsresolver').HOSTS = file.name
        look_up, name = make(server), NAME.format(0)
        first = await look_all_up(look_up, [name], 1)
        cpu, wall = time.process_time(), time.perf_counter()
        answers = [await look_up(name) for _ in range(total)]
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    right = sum(map(is_right, answers))
    return {
        'per second': right / wall,
        'CPU µs': cpu / total * 1e6,
        'first ms': first.get('p50 ms'),
        'errors': total - right,
        'asked': total,
    }


def resident():
    return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


async def kept(make, server, total):
    look_up = functools.partial(make, server, **({'max_cache_size': total} if make is ours else {}))()
    await look_all_up(look_up, [f'warm-{NAME}'.format(i) for i in range(200)], 100)
    gc.collect()
    before, errors = resident(), 0
    for start in range(0, total, 1000):
        result = await look_all_up(look_up, [NAME.format(i) for i in range(start, start + 1000)], 100)
        errors += result['errors']
    gc.collect()
    used, began = resident() - before, time.perf_counter()
    gc.collect()
    return {'bytes': used / total, 'full gc ms': (time.perf_counter() - began) * 1e3, 'errors': errors, 'asked': total + 200}


async def waited_for(make, _, total):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(('127.0.0.1', 0))
        look_up = make(silent.getsockname())
        gc.collect()
        before = resident()
        tasks = [asyncio.ensure_future(look_up(NAME.format(i))) for i in range(total)]
        await asyncio.sleep(0.5)
        result = {'bytes': (resident() - before) / total, 'errors': sum(task.done() for task in tasks), 'asked': total}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return result


class Row(NamedTuple):
    name: str
    measurement: Any
    peers: list
    measure: str  # that the spread and the ratios are of
    options: dict
    resolv_conf: str = ''  # for all, in place of arguments


ONE, TEN, HUNDRED, THOUSAND, MANY = (f'uncached, {in_flight:,} in flight' for in_flight in (1, 10, 100, 1000, 10_000))
BY_FILE, BOTH = f'{HUNDRED}, by resolv.conf', 'both families, 100 in flight'
BURST, KEPT = 'burst of {:,}, ulimit -n 1024', 'memory, {:,} names cached'


def rows(few):
    """All rows, with a fraction of the look-ups."""
    for name, in_flight, total in ((ONE, 1, 2000), (TEN, 10, 4000), (HUNDRED, 100, 6000), (THOUSAND, 1000, 10_000), (MANY, 10_000, 20_000)):
        peers = list(PEERS) if in_flight <= 100 else THREADLESS
        yield Row(name, uncached, peers, 'CPU µs', {'in_flight': in_flight, 'total': total // few})
    yield Row(BY_FILE, uncached, [*CACHING, THREADS], 'CPU µs', {'in_flight': 100, 'total': 6000 // few}, RESOLV_CONF)
    peers = [OURS, 'aiodns', 'dnspython', PUBLISHED, THREADS]
    yield Row(BOTH, uncached, peers, 'CPU µs', {'in_flight': 100, 'total': 6000 // few, 'both': True}, RESOLV_CONF)
    yield Row('getaddrinfo beside resolve, cached', surface, [OURS], 'CPU µs', {'total': 20_000 // few})
    yield Row('import', imported, [OURS, 'aiodns', 'dnspython', PUBLISHED], 'CPU µs', {})
    yield Row('cached', cached, CACHING, 'CPU µs', {'total': 20_000 // few})
    for lines in (10, 10_000, 1_000_000 // few):
        yield Row(f'cached, hosts file of {lines:,} lines', cached, [OURS], 'CPU µs', {'total': 20_000 // few, 'host_lines': lines})
    burst = {'in_flight': 50_000, 'total': 50_000 // few, 'warm_up': 0, 'files': 1024}
    yield Row(BURST.format(50_000 // few), uncached, RESOLVERS, 'per second', burst)
    yield Row(KEPT.format(100_000 // few), kept, CACHING, 'bytes', {'total': 100_000 // few})
    yield Row(KEPT.format(1_000_000 // few), kept, [OURS], 'bytes', {'total': 1_000_000 // few})
    yield Row(f'memory, {10_000 // few:,} in flight', waited_for, CACHING, 'bytes', {'total': 10_000 // few})
    dead = f'nameserver {DEAD}\nnameserver {SYSTEM}\n'
    yield Row(
        'one of two nameservers dead', uncached, [*CACHING, THREADS], 'p50 ms', {'in_flight': 1, 'total': 1 + 4 // few, 'warm_up': 1}, dead
    )
    chain = {'in_flight': 1, 'total': 1000 // few, 'name': 'chain1.example.com'}
    yield Row('chain of four aliases', uncached, RESOLVERS, 'p50 ms', chain)


FASTER_THAN = {'aiodns': 1.4, PUBLISHED: 5, 'dnspython': 10}
TARGETS = [  # a measure of ours in a row, against a peer in a row; for speeds at least the bound, else at most
    *(('per second', row, peer, row, bound) for row in (BY_FILE, HUNDRED) for peer, bound in FASTER_THAN.items()),
    ('per second', BOTH, 'aiodns', BOTH, 1.5),
    ('per second', BOTH, PUBLISHED, BOTH, 6),
    ('CPU µs', BOTH, OURS, BY_FILE, 1.7),
    ('CPU µs', 'import', 'aiodns', 'import', 0.5),
    ('CPU µs', ONE, 'aiodns', ONE, 0.6),
    ('CPU µs', HUNDRED, FLOOR, HUNDRED, 1.7),
    ('CPU µs', THOUSAND, OURS, HUNDRED, 1.4),
    ('CPU µs', MANY, OURS, HUNDRED, 1.8),
    *(('per second', 'cached', peer, 'cached', bound) for peer, bound in ((PUBLISHED, 8), ('dnspython', 14), ('aiodns', 35))),
    ('per second', BURST.format(50_000), 'aiodns', BURST.format(50_000), 1),
    ('bytes', KEPT.format(100_000), PUBLISHED, KEPT.format(100_000), 0.5),
]


def child(peer, measurement, options, server, loop_name, path):
    """One measurement, printed as JSON."""
    sys.path[:0] = [path] if path else []
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, options.pop('files', 65_536)), hard))
    before = calibrate()
    loop = __import__(loop_name).new_event_loop()
    result = loop.run_until_complete(globals()[measurement](PEERS[peer], server and tuple(server), **options))
    print(json.dumps({**result, 'calibration': max(before, calibrate())}), flush=True)
    os._exit(0)  # what a peer leaves open is not for its measurement


def calibrate():
    def once():
        began = time.process_time()
        sum(i * i for i in range(100_000))
        return time.process_time() - began

    return min(once() for _ in range(5))


# --- All of it: the nameserver, the rounds and the tables ------------------------------------------------------------------------------


def own_resolv_conf(path):
    """Whether this process and those it starts see a file in place of /etc/resolv.conf: it takes root, and in a container a capability."""
    path.write_text(RESOLV_CONF)
    mount = f'mount --make-rprivate / && mount --bind {path} /etc/resolv.conf'
    in_new_namespace = not ctypes.CDLL(None).unshare(CLONE_NEWNS)
    return in_new_namespace and not subprocess.run(mount, shell=True, capture_output=True, check=False).returncode


@contextlib.contextmanager
def nameserver(directory):
    """NSD with our zone; gives its address, and a function that says how many queries it has had."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(('127.0.0.1', 0))
        udp.bind(server := tcp.getsockname())
    (directory / 'zone').write_text(ZONE)
    addresses = ' ip-address: {}@{}\n'.format(*server) + (f' ip-address: {SYSTEM}@53\n' if os.getuid() == 0 else '')
    (directory / 'nsd.conf').write_text(
        f'server:\n{addresses} username: ""\n zonesdir: {directory}\n database: ""\n pidfile: {directory}/pid\n server-count: 1\n'
        f' xfrdfile: {directory}/xfrd\n zonelistfile: {directory}/list\n logfile: {directory}/log\n rrl-ratelimit: 0\n'
        f'remote-control:\n control-enable: yes\n control-interface: {directory}/control\nzone:\n name: example.com\n zonefile: zone\n'
    )  # (by default NSD answers no more than 200 queries a second)
    nsd = shutil.which('nsd', path=f'{os.environ["PATH"]}:/usr/sbin')
    if not nsd:
        raise SystemExit('NSD is needed: apt-get install nsd')
    on_last_core = ['taskset', '-c', str(max(os.sched_getaffinity(0)))]
    process = subprocess.Popen([*on_last_core, nsd, '-d', '-c', f'{directory}/nsd.conf'], stderr=subprocess.DEVNULL)
    control = functools.partial(subprocess.run, capture_output=True, text=True, check=False)
    command = [f'{nsd}-control', '-c', f'{directory}/nsd.conf']
    try:
        while control([*command, 'status']).returncode:
            if process.poll() is not None:
                raise SystemExit(f'nsd did not start: {(directory / "log").read_text()}')
            time.sleep(0.1)
        yield server, lambda: int(re.search(r'num.queries=(\d+)', control([*command, 'stats_noreset']).stdout)[1])
    finally:
        process.terminate()
        process.wait()


def measure(row, peer, server, queries, loop, directory):
    """One measurement in a process of its own; or None, when the peer is not there."""
    path = str(directory / 'published') if peer == PUBLISHED else None
    call = [peer, row.measurement.__name__, row.options, None if row.resolv_conf or peer == THREADS else server, loop, path]
    (directory / 'resolv.conf').write_text(row.resolv_conf or RESOLV_CONF)
    before, result = queries(), {'row': row.name, 'who': peer}
    command = [sys.executable, __file__, '--child', json.dumps(call)]
    try:
        environment = {**os.environ, 'PYTHONDONTWRITEBYTECODE': ''}  # imports are of compiled files
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        why = str(error) if isinstance(error, subprocess.TimeoutExpired) else (error.stderr.strip() or 'no result').splitlines()[-1]
        is_missing = why.startswith('ModuleNotFoundError')
        print(f'{peer} {"is left out" if is_missing else "failed"}: {why}', file=sys.stderr)
        return None if is_missing else {**result, 'errors': row.options.get('total', 1), 'calibration': calibrate()}
    result |= json.loads(done.stdout)
    result['queries'] = (queries() - before) / result.pop('asked')
    return {**result, 'main': result.get(row.measure)}


def run_row(row, rounds, more, earlier, measure_peer):
    """The results of as many rounds of each peer; of more, those with errors, and then those in which the machine was quickest."""
    found = {peer: [] for peer in row.peers if peer in PEERS}
    turns = collections.deque(found)
    best = min((result['calibration'] for result in earlier), default=float('inf'))
    for number in range(rounds + more):
        for peer in list(turns):
            if sum(result['calibration'] <= 1.3 * best for result in found[peer]) >= rounds:
                continue
            print(f'{row.name}: {peer}, round {number + 1}', file=sys.stderr)
            result = measure_peer(row, peer)
            if result is None:
                turns.remove(peer)
                continue
            best = min(best, result['calibration'])
            found[peer].append(result)
        turns.rotate(-1)
    for results in found.values():
        results.sort(key=lambda result: (not result['errors'], result['calibration']))
    return [result for results in found.values() for result in results[:rounds]]


WHOLE, PARTS = '{:,.0f}'.format, '{:,.2f}'.format
FORMATS = dict.fromkeys(['per second', 'bytes', 'full gc ms', 'first ms', 'errors'], WHOLE)
FORMATS |= dict.fromkeys(['CPU µs', 'p50 ms', 'p99 ms', 'queries', 'ratio'], PARTS) | {'spread': '{:.0%}'.format}


def summarize(results):
    """The medians over the rounds, by row and peer."""
    import pandas as pd

    rounds = pd.DataFrame(results).groupby(['row', 'who'], sort=False)
    table = rounds.median()
    table['errors'] = rounds['errors'].max()
    table['spread'] = (rounds['main'].quantile(0.75) - rounds['main'].quantile(0.25)) / table['main']
    table['ratio'] = (table['main'] / table.groupby('row')['main'].transform('first')).where(table['errors'] == 0)
    return table.drop(columns=['main', 'calibration'])


def print_targets(table):
    """The ratios that the project has set itself, where both of what they compare were measured."""
    for measure, row, peer, other_row, bound in TARGETS:
        if (row, OURS) in table.index and (other_row, peer) in table.index:
            found = table.loc[(row, OURS), measure] / table.loc[(other_row, peer), measure]
            against, sign = peer if row == other_row else other_row, '≥' if measure == 'per second' else '≤'
            print(f'{found:6.2f} {sign} {bound:<4} {row}: {measure}, against {against}')


def draw(table, path):
    import matplotlib as mpl

    mpl.rcParams['svg.fonttype'] = 'none'  # letters as text, not as outlines
    bars = table.loc[HUNDRED, 'CPU µs'].sort_values(ascending=False)
    colours = ['#1a7f37' if peer == OURS else '#bbbbbb' if 'floor' in peer else '#57606a' for peer in bars.index]
    title = 'CPU of the client for one uncached look-up, 100 in flight, in µs: less is better'
    axes = bars.plot.barh(title=title, color=colours, xlabel='', ylabel='')
    axes.bar_label(axes.containers[0], fmt='%.0f', padding=3)
    axes.margins(x=0.1)
    axes.figure.savefig(path, bbox_inches='tight')


def machine():
    model = re.search(r'model name\s*: (.*)', pathlib.Path('/proc/cpuinfo').read_text())
    parts = [f'CPython {platform.python_version()}', f'{os.cpu_count()} × {model[1] if model else "unknown"}']
    for peer in ('aiodns', 'pycares', 'dnspython', 'async_dns', 'uvloop'):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f'{peer} {importlib.metadata.version(peer)}')
    return ', '.join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='one round with few look-ups, to see that it works: its figures mean nothing')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--loop', choices=['asyncio', 'uvloop'], default='asyncio')
    parser.add_argument('--only', metavar='REGEX', default='', help="the rows whose name this is found in: '^cached$'")
    parser.add_argument('--json', action='store_true', help='print the results of all rounds as JSON, in place of the tables')
    parser.add_argument('--svg', metavar='FILE', help='draw the row of 100 in flight')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*json.loads(options.child))
    results = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = pathlib.Path(name)
        pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--target', str(directory / 'published'), 'aiodnsresolver==0.0.157']
        if subprocess.run(pip, stdout=subprocess.DEVNULL, check=False).returncode:
            print(f'{PUBLISHED} is left out: pip cannot get it', file=sys.stderr)
            del PEERS[PUBLISHED]
        server, queries = stack.enter_context(nameserver(directory))
        if by_file := own_resolv_conf(directory / 'resolv.conf'):
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((DEAD, 53))
        else:
            print('What can only be given a resolv.conf is left out: that takes root and mount namespaces', file=sys.stderr)
            del PEERS[THREADS]
        measure_peer = functools.partial(measure, server=server, queries=queries, loop=options.loop, directory=directory)
        chosen = [row for row in rows(20 if options.quick else 1) if re.search(options.only, row.name) and (by_file or not row.resolv_conf)]
        for row in chosen:
            once = options.quick or row.options.get('total', 0) >= 1_000_000
            results += run_row(row, 1 if once else options.rounds, 0 if options.quick else 2, results, measure_peer)
    if not results:
        raise SystemExit(f'nothing was measured: {"every peer is missing" if chosen else "there is no such row"}')
    table = summarize(results)
    if options.json:
        print(json.dumps({'machine': machine(), 'loop': options.loop, 'results': results}, indent=1, ensure_ascii=False))
    else:
        print(f'{machine()}, loop: {options.loop}\n\n{table.to_string(na_rep="", formatters=FORMATS)}\n')
        print_targets(table)
    if options.svg and HUNDRED in table.index:
        draw(table, options.svg)
    failed = [row.name for row in chosen if table['errors'].get((row.name, OURS), 1)]
    return f'aiodnsresolver failed at: {", ".join(failed)}' if failed else None


if __name__ == '__main__':
    sys.exit(main())
