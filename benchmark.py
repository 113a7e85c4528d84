"""Measures aiodnsresolver beside what else asyncio programs look names up with, on loopback, on Linux, by root.

An NSD of our own, on the last core, has a wildcard zone. All are given it by a resolv.conf, as in a service: in a mount namespace, so
that no other program sees it. Only async_dns and the floor, which read no such file, get its address. Each measurement runs in a
process of its own, with all its threads on the first core; the peers take turns, another of them being first in each round, and medians
are shown. A round that was slow, by a loop of plain Python that is timed before and after, is run again, up to two more times. Answers
are checked after the clock has stopped; what is wrong or missing counts as an error, CPU and latencies are for each right one, and who
has errors has no ratio. "queries" are those that NSD counts for a look-up, "spread" is how far the middle half of the rounds is apart,
"ratio" is to the first line of the row. However many look-ups are in flight, aiodnsresolver has at most 256 sockets open, its default,
which shows in its memory too, and getaddrinfo as many threads as asyncio gives it. In the row of a dead nameserver the first look-up, by
which some find out, is not counted.
"""

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import importlib
import importlib.metadata
import multiprocessing
import os
import pathlib
import platform
import re
import resource
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

TIMEOUT, TRIES = 2, 5
LIMIT = 120  # seconds for the look-ups of a measurement
ADDRESS, ADDRESS_6 = '127.9.9.9', '2001:db8::9'  # of every name of the zone
NAME = 'host-{}.service.example.com'
ALIASES = ''.join(f'chain{i} 0 CNAME chain{i + 1}\n' for i in range(1, 5))
ZONE = f'$TTL 3600\n@ SOA ns mail 1 3600 600 86400 60\n@ NS ns\n* A {ADDRESS}\n* AAAA {ADDRESS_6}\n{ALIASES}'
CLONE_NEWNS = 0x20000  # of <sched.h>, for a mount namespace
GOOD, DEAD = '127.8.15.53', '127.8.15.54'  # nameservers, at port 53, the only one that a resolv.conf can name
RESOLV_CONF = f'nameserver {GOOD}\noptions timeout:{TIMEOUT} attempts:{TRIES}\n'
OURS, PUBLISHED, THREADS, FLOOR = 'aiodnsresolver', 'aiodnsresolver 0.0.157', 'getaddrinfo in threads', 'floor'


# --- The peers: each makes a function of a name ----------------------------------------------------------------------------------------


def ours(both=False, **options):
    import aiodnsresolver

    (resolve, _), types = aiodnsresolver.Resolver(**options), aiodnsresolver.TYPES
    qtype = (types.A, types.AAAA) if both else types.A
    return lambda name: resolve(name, qtype)


def published(both=False):
    import aiodnsresolver

    (resolve, _), types = aiodnsresolver.Resolver(), aiodnsresolver.TYPES
    if both:
        return lambda name: asyncio.gather(resolve(name, types.A), resolve(name, types.AAAA))
    return lambda name: resolve(name, types.A)


def aiodns(both=False):
    import aiodns

    resolver = aiodns.DNSResolver()
    if both:
        return lambda name: resolver.getaddrinfo(name, socket.AF_UNSPEC, type=socket.SOCK_STREAM)
    return lambda name: resolver.query_dns(name, 'A')


def dnspython(both=False):
    import dns.asyncresolver

    resolver = dns.asyncresolver.Resolver()
    resolver.cache, resolver.lifetime = dns.resolver.LRUCache(1_000_000), TIMEOUT * TRIES
    if both:
        return lambda name: asyncio.gather(*(resolver.resolve(name, qtype, search=False) for qtype in ('A', 'AAAA')))
    return lambda name: resolver.resolve(name, 'A', search=False)


def async_dns():
    import async_dns.core
    import async_dns.resolver

    client, address = async_dns.resolver.DNSClient(TIMEOUT * TRIES), async_dns.core.Address.parse(f'{GOOD}:53')
    return lambda name: client.query(name, async_dns.core.types.A, address)


def getaddrinfo(both=False):
    loop, family = asyncio.get_running_loop(), socket.AF_UNSPEC if both else socket.AF_INET
    return lambda name: loop.getaddrinfo(name, None, family=family, type=socket.SOCK_STREAM)


def floor():
    """What asyncio needs at least for a datagram each way over a new socket, with a poller of its own: no DNS but a question."""
    loop, epoll, futures = asyncio.get_running_loop(), select.epoll(), {}

    def dispatch():
        for fd, _ in epoll.poll(0):
            futures.pop(fd).set_result(None)

    async def ask(name):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((GOOD, 53))
            question = b''.join(bytes([len(label)]) + label for label in name.encode().split(b'.'))
            sock.send(b'\1\2\1\0\0\1\0\0\0\0\0\0' + question + b'\0\0\1\0\1')
            future = futures[sock.fileno()] = loop.create_future()
            epoll.register(sock.fileno(), select.EPOLLIN)
            await future
            return sock.recv(512)

    loop.add_reader(epoll.fileno(), dispatch)
    return ask


PEERS = {
    OURS: ours,
    'aiodns': aiodns,
    'dnspython': dnspython,
    'async_dns': async_dns,
    PUBLISHED: published,  # from another directory, that comes first
    THREADS: getaddrinfo,
    FLOOR: floor,
}
THREADLESS = [peer for peer in PEERS if peer != THREADS]
RESOLVERS = [peer for peer in THREADLESS if peer != FLOOR]
CACHING = [peer for peer in RESOLVERS if peer != 'async_dns']


def is_right(answer, both=False):
    """Whether what a look-up came to, with whichever peer, holds the address, or those of both families."""
    if isinstance(answer, (bytes, Exception)):
        return isinstance(answer, bytes) and socket.inet_aton(ADDRESS) in answer
    parts = answer if isinstance(answer, list) else [answer]
    text = repr([getattr(part, 'rrset', part) for part in parts])  # dnspython's Answer does not show what it holds
    return ADDRESS in text and (not both or ADDRESS_6 in text)


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
    await asyncio.wait(workers, timeout=LIMIT)  # the floor waits for ever for a datagram that was lost
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    times = sorted(latency for answer, latency in zip(answers, latencies, strict=True) if is_right(answer, both))
    result = {'per second': len(times) / wall, 'errors': len(names) - len(times)}
    if not times:
        return result
    centiles = {f'p{percent} ms': times[len(times) * percent // 100] * 1e3 for percent in (50, 99)}
    return {**result, 'CPU µs': cpu / len(times) * 1e6, **centiles}


async def uncached(make, in_flight, total, warm_up=100, name=NAME, **options):
    look_up, names = make(**options), [name.format(i) for i in range(warm_up + total)]
    if warm_up:
        await look_all_up(look_up, names[:warm_up], min(in_flight, 100))
    return {**await look_all_up(look_up, names[warm_up:], in_flight, **options), 'asked': len(names)}


async def surface(make, total):
    """What `getaddrinfo` costs more than `resolve`, for a cached name of both families."""
    import aiodnsresolver

    resolve, _ = aiodnsresolver.Resolver()
    name, families, times = NAME.format(0), (aiodnsresolver.TYPES.AAAA, aiodnsresolver.TYPES.A), []
    for call in (lambda: resolve(name, families), lambda: aiodnsresolver.getaddrinfo(resolve, name, 80, type=socket.SOCK_STREAM)):
        answer = await call()
        began = time.process_time()
        for _ in range(total):
            answer = await call()
        times.append((time.process_time() - began) / total * 1e6)
    return {'CPU µs': times[1] - times[0], 'errors': 0 if is_right(answer, both=True) else total, 'asked': total}


async def imported(make):
    """The CPU time of an import after that of asyncio, with compiled files."""
    began = time.process_time()
    importlib.import_module({aiodns: 'aiodns', dnspython: 'dns.asyncresolver'}.get(make, 'aiodnsresolver'))
    return {'CPU µs': (time.process_time() - began) * 1e6, 'errors': 0, 'asked': 1}


async def cached(make, total):
    look_up, name = make(), NAME.format(0)
    await look_up(name)
    cpu, wall = time.process_time(), time.perf_counter()
    answers = [await look_up(name) for _ in range(total)]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    right = sum(map(is_right, answers))
    return {'per second': right / wall, 'CPU µs': cpu / total * 1e6, 'errors': total - right, 'asked': total + 1}


def resident():
    return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


async def kept(make, total):
    look_up = make(**({'max_cache_size': total} if make is ours else {}))
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


async def waited_for(make, total):
    look_up = make()
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
    resolv_conf: str = RESOLV_CONF


ONE, HUNDRED, THOUSAND, MANY = (f'uncached, {in_flight:,} in flight' for in_flight in (1, 100, 1000, 10_000))
BOTH, BURST, KEPT = 'both families, 100 in flight', 'burst of {:,}, ulimit -n 1024', 'memory, {:,} names cached'


def rows(few):
    """All rows, with a fraction of the look-ups."""
    for name, in_flight, total in ((ONE, 1, 2000), (HUNDRED, 100, 6000), (THOUSAND, 1000, 10_000), (MANY, 10_000, 20_000)):
        peers = list(PEERS) if in_flight <= 100 else THREADLESS
        yield Row(name, uncached, peers, 'CPU µs', {'in_flight': in_flight, 'total': total // few})
    peers = [OURS, 'aiodns', 'dnspython', PUBLISHED, THREADS]
    yield Row(BOTH, uncached, peers, 'CPU µs', {'in_flight': 100, 'total': 6000 // few, 'both': True})
    yield Row('getaddrinfo beside resolve, cached', surface, [OURS], 'CPU µs', {'total': 20_000 // few})
    yield Row('import', imported, CACHING, 'CPU µs', {})
    yield Row('cached', cached, CACHING, 'CPU µs', {'total': 20_000 // few})
    burst = {'in_flight': 50_000, 'total': 50_000 // few, 'warm_up': 0, 'files': 1024}
    yield Row(BURST.format(50_000 // few), uncached, RESOLVERS, 'per second', burst)
    yield Row(KEPT.format(100_000 // few), kept, CACHING, 'bytes', {'total': 100_000 // few})
    silent = f'nameserver {DEAD}\n'
    yield Row(f'memory, {10_000 // few:,} in flight', waited_for, CACHING, 'bytes', {'total': 10_000 // few}, silent)
    one_by_one = {'in_flight': 1, 'total': 1 + 4 // few, 'warm_up': 1}
    yield Row('one of two nameservers dead', uncached, [*CACHING, THREADS], 'p50 ms', one_by_one, f'{silent}nameserver {GOOD}\n')
    chain = {'in_flight': 1, 'total': 1000 // few, 'name': 'chain1.example.com'}
    yield Row('chain of four aliases', uncached, RESOLVERS, 'p50 ms', chain)


TARGETS = [  # a measure of ours in a row, against a peer in a row; for speeds at least the bound, else at most
    ('per second', HUNDRED, 'aiodns', HUNDRED, 1.4),
    ('per second', HUNDRED, PUBLISHED, HUNDRED, 5),
    ('per second', HUNDRED, 'dnspython', HUNDRED, 10),
    ('per second', BOTH, 'aiodns', BOTH, 1.5),
    ('per second', BOTH, PUBLISHED, BOTH, 6),
    ('CPU µs', BOTH, OURS, HUNDRED, 1.7),
    ('CPU µs', 'import', 'aiodns', 'import', 0.5),
    ('CPU µs', ONE, 'aiodns', ONE, 0.6),
    ('CPU µs', HUNDRED, FLOOR, HUNDRED, 1.7),
    ('CPU µs', THOUSAND, OURS, HUNDRED, 1.4),
    ('CPU µs', MANY, OURS, HUNDRED, 1.8),
    ('per second', 'cached', PUBLISHED, 'cached', 8),
    ('per second', 'cached', 'dnspython', 'cached', 14),
    ('per second', 'cached', 'aiodns', 'cached', 35),
    ('per second', BURST.format(50_000), 'aiodns', BURST.format(50_000), 1),
    ('bytes', KEPT.format(100_000), PUBLISHED, KEPT.format(100_000), 0.5),
]


def run_alone(peer, measurement, options, loop_name, path):
    """Runs one measurement, in a process that is there for nothing else."""
    sys.path[:0] = [path] if path else []
    sys.dont_write_bytecode = False  # imports are of compiled files
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, options.pop('files', 65_536)), hard))
    before = calibrate()
    loop = importlib.import_module(loop_name).new_event_loop()
    result = loop.run_until_complete(measurement(PEERS[peer], **options))
    return {**result, 'calibration': max(before, calibrate())}


def calibrate():
    def once():
        began = time.process_time()
        sum(i * i for i in range(100_000))
        return time.process_time() - began

    return min(once() for _ in range(5))


# --- All of it: the nameserver, the rounds and the tables ------------------------------------------------------------------------------


def mount_resolv_conf(path):
    """Has this process and those it starts see a file in place of /etc/resolv.conf."""
    path.write_text(RESOLV_CONF)
    mount = f'mount --make-rprivate / && mount --bind {path} /etc/resolv.conf'
    if ctypes.CDLL(None).unshare(CLONE_NEWNS) or subprocess.run(mount, shell=True, check=False).returncode:
        raise SystemExit('A mount namespace is needed: run this by root, in a container with CAP_SYS_ADMIN')


@contextlib.contextmanager
def nameserver(directory):
    """NSD with our zone; gives a function that says how many queries it has had."""
    (directory / 'zone').write_text(ZONE)
    (directory / 'nsd.conf').write_text(
        f'server:\n ip-address: {GOOD}\n username: ""\n zonesdir: {directory}\n database: ""\n pidfile: {directory}/pid\n'
        f' xfrdfile: {directory}/xfrd\n zonelistfile: {directory}/list\n logfile: {directory}/log\n rrl-ratelimit: 0\n server-count: 1\n'
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
        yield lambda: int(re.search(r'num.queries=(\d+)', control([*command, 'stats_noreset']).stdout)[1])
    finally:
        process.terminate()
        process.wait()


def measure(row, peer, queries, loop, directory):
    """One measurement in a process of its own; or None, when the peer is not there."""
    (directory / 'resolv.conf').write_text(row.resolv_conf)
    path, before, result = str(directory / 'published') if peer == PUBLISHED else None, queries(), {'row': row.name, 'who': peer}
    try:
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            result |= pool.submit(run_alone, peer, row.measurement, row.options, loop, path).result()
    except ModuleNotFoundError as error:
        print(f'{peer} is left out: {error}', file=sys.stderr)
        return None
    except Exception as error:
        print(f'{peer} failed: {error!r}', file=sys.stderr)
        return {**result, 'errors': row.options.get('total', 1), 'calibration': calibrate()}
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
FORMATS = dict.fromkeys(['per second', 'bytes', 'full gc ms', 'errors'], WHOLE)
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
    colours = ['#1a7f37' if peer == OURS else '#bbbbbb' if peer == FLOOR else '#57606a' for peer in bars.index]
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
    parser.add_argument('--svg', metavar='FILE', help='draw the row of 100 in flight')
    options = parser.parse_args()
    chosen = [row for row in rows(20 if options.quick else 1) if re.search(options.only, row.name)]
    results = []
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        directory = pathlib.Path(name)
        pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--target', str(directory / 'published'), 'aiodnsresolver==0.0.157']
        if subprocess.run(pip, stdout=subprocess.DEVNULL, check=False).returncode:
            print(f'{PUBLISHED} is left out: pip cannot get it', file=sys.stderr)
            del PEERS[PUBLISHED]
        mount_resolv_conf(directory / 'resolv.conf')
        dead.bind((DEAD, 53))
        with nameserver(directory) as queries:
            measure_peer = functools.partial(measure, queries=queries, loop=options.loop, directory=directory)
            for row in chosen:
                results += run_row(row, *((1, 0) if options.quick else (options.rounds, 2)), results, measure_peer)
    if not results:
        raise SystemExit(f'nothing was measured: {"every peer is missing" if chosen else "there is no such row"}')
    table = summarize(results)
    print(f'{machine()}, loop: {options.loop}\n\n{table.to_string(na_rep="", formatters=FORMATS)}\n')
    print_targets(table)
    if options.svg and HUNDRED in table.index:
        draw(table, options.svg)
    failed = [row.name for row in chosen if table['errors'].get((row.name, OURS), 1)]
    return f'aiodnsresolver failed at: {", ".join(failed)}' if failed else None


if __name__ == '__main__':
    sys.exit(main())
