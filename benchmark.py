"""Measures aiodnsresolver beside what else asyncio programs look names up with, on loopback, on Linux, by root.

An NSD of our own, on the last core, has a wildcard zone. All are given it by a resolv.conf, as in a service: in a mount namespace, so
that no other program sees it. The floor, which reads no such file, gets its address. Each measurement runs in a process of its own, with
all its threads on the first core; the peers take turns, another being first in each round, and medians are shown. One that was slow, by
a loop of plain Python that is timed before and after, is made again, up to two more times. Answers are checked after the clock has
stopped; what is wrong or missing is an error, CPU and latencies are for each right one, and a peer with errors has no ratio. "spread" is
how far the middle half of the rounds is apart, "ratio" is to the first line of the row. aiodnsresolver has at most 256 sockets open, its
default, getaddrinfo as many threads as asyncio gives it. In the row of a dead nameserver the first look-up does not count.
"""

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import ctypes
import gc
import importlib.metadata
import multiprocessing
import os
import pathlib
import re
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import timeit

ADDRESS, ADDRESS_6 = '127.9.9.9', '2001:db8::9'  # of every name of the zone
NAME = 'host-{}.service.example.com'
ZONE = f'$TTL 3600\n@ SOA ns mail 1 3600 600 86400 60\n@ NS ns\n* A {ADDRESS}\n* AAAA {ADDRESS_6}\n'
GOOD, DEAD = '127.8.15.53', '127.8.15.54'  # nameservers, at port 53, the only one that a resolv.conf can name
RESOLV_CONF = f'nameserver {GOOD}\noptions timeout:2 attempts:5\n'
OURS, PUBLISHED, SURFACE = 'aiodnsresolver', 'aiodnsresolver 0.0.157', 'getaddrinfo of aiodnsresolver'
THREADS, FLOOR, CACHE = 'getaddrinfo in threads', 'floor', 200_000
CALIBRATION = timeit.Timer('sum(i * i for i in range(100_000))', timer=time.process_time)


# --- The peers: as in timeit, a setup, and what is timed for IPv4 and for both families ------------------------------------------------


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


STREAM = 'type=socket.SOCK_STREAM'
PEERS = {
    OURS: ('from aiodnsresolver import *; r, _ = Resolver(max_cache_size=CACHE)', 'r(name, TYPES.A)', 'r(name, (TYPES.A, TYPES.AAAA))'),
    'aiodns': ('import aiodns; r = aiodns.DNSResolver()', 'r.query_dns(name, "A")', f'r.getaddrinfo(name, socket.AF_UNSPEC, {STREAM})'),
    'dnspython': (
        'import dns.asyncresolver as m; r = m.Resolver(); r.cache, r.lifetime = m.dns.resolver.LRUCache(CACHE), 10',
        'r.resolve(name, "A", search=False)',
        'gather(r.resolve(name, "A", search=False), r.resolve(name, "AAAA", search=False))',
    ),
    PUBLISHED: ('from aiodnsresolver import *; r, _ = Resolver()', 'r(name, TYPES.A)', 'gather(r(name, TYPES.A), r(name, TYPES.AAAA))'),
    SURFACE: ('from aiodnsresolver import *; r, _ = Resolver()', '', f'getaddrinfo(r, name, 80, {STREAM})'),
    THREADS: ('r = asyncio.get_running_loop().getaddrinfo', f'r(name, 80, family=socket.AF_INET, {STREAM})', f'r(name, 80, {STREAM})'),
    FLOOR: ('ask = floor()', 'ask(name)'),
}
CACHING = [OURS, 'aiodns', 'dnspython', PUBLISHED]


def start(peer, both=False):
    setup, *timed = PEERS[peer]
    names = {**globals(), 'gather': asyncio.gather}
    exec(setup, names)
    return eval(f'lambda name: {timed[both]}', names)


def is_right(answer, both=False):
    """Whether what a look-up came to, with whichever peer, holds the address, or those of both families."""
    if isinstance(answer, (bytes, Exception)):
        return isinstance(answer, bytes) and socket.inet_aton(ADDRESS) in answer
    parts = answer if isinstance(answer, list) else [answer]
    text = repr([getattr(part, 'rrset', part) for part in parts])  # dnspython's Answer does not show what it holds
    return ADDRESS in text and (not both or ADDRESS_6 in text)


# --- The measurements, each in a process of its own ------------------------------------------------------------------------------------


async def look_all_up(look_up, names, in_flight, both=False):
    waiting, found = iter(names), []

    async def worker():
        for name in waiting:
            began = time.perf_counter()
            try:
                answer = await look_up(name)
            except Exception as error:
                answer = error
            found.append((time.perf_counter() - began, answer))

    cpu, wall = time.process_time(), time.perf_counter()
    workers = [asyncio.ensure_future(worker()) for _ in range(min(in_flight, len(names)))]
    await asyncio.wait(workers, timeout=120)  # the floor waits for ever for a datagram that was lost
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    times = [latency for latency, answer in found if is_right(answer, both)]
    each = {'CPU µs': cpu / len(times) * 1e6, 'p50 ms': statistics.median(times) * 1e3} if times else {}
    return {'per second': len(times) / wall, 'errors': len(names) - len(times), **each}


async def uncached(peer, total, in_flight, warm_up=100, both=False):
    look_up, names = start(peer, both), [NAME.format(i) for i in range(warm_up + total)]
    if warm_up:
        await look_all_up(look_up, names[:warm_up], min(in_flight, 100))
    return await look_all_up(look_up, names[warm_up:], in_flight, both)


async def cached(peer, total, both=False):
    look_up, name = start(peer, both), NAME.format(0)
    await look_up(name)
    cpu, wall = time.process_time(), time.perf_counter()
    answers = [await look_up(name) for _ in range(total)]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    right = sum(is_right(answer, both) for answer in answers)
    return {'per second': right / wall, 'CPU µs': cpu / total * 1e6, 'errors': total - right}


async def imported(peer):
    """The CPU time of an import after that of asyncio, with compiled files."""
    began = time.process_time()
    exec(PEERS[peer][0].partition(';')[0])
    return {'CPU µs': (time.process_time() - began) * 1e6, 'errors': 0}


def resident():
    gc.collect()
    return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


async def kept(peer, total):
    look_up, errors = start(peer), 0
    await look_all_up(look_up, [f'warm-{i}.example.com' for i in range(200)], 100)
    before = resident()
    for first in range(0, total, 1000):
        errors += (await look_all_up(look_up, [NAME.format(i) for i in range(first, first + 1000)], 100))['errors']
    return {'bytes': (resident() - before) / total, 'errors': errors}


async def waited_for(peer, total):
    look_up, before = start(peer), resident()
    tasks = [asyncio.ensure_future(look_up(NAME.format(i))) for i in range(total)]
    done, _ = await asyncio.wait(tasks, timeout=0.5)
    result = {'bytes': (resident() - before) / total, 'errors': len(done)}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return result


Row = collections.namedtuple('Row', 'name measurement peers main options resolv_conf', defaults=[RESOLV_CONF])
ONE, HUNDRED, THOUSAND, MANY = (f'uncached, {in_flight:,} in flight' for in_flight in (1, 100, 1000, 10_000))
BOTH, BURST, KEPT = 'both families, 100 in flight', 'burst of {:,}, ulimit -n 1024', 'memory, {:,} names cached'


def rows(few):
    """All rows, with a fraction of the look-ups."""
    for name, in_flight, total in ((ONE, 1, 2000), (HUNDRED, 100, 6000), (THOUSAND, 1000, 10_000), (MANY, 10_000, 20_000)):
        peers = [*CACHING, *([THREADS] if in_flight <= 100 else []), FLOOR]
        yield Row(name, uncached, peers, 'CPU µs', {'in_flight': in_flight, 'total': total // few})
    yield Row(BOTH, uncached, [*CACHING, THREADS], 'CPU µs', {'in_flight': 100, 'total': 6000 // few, 'both': True})
    yield Row('import', imported, CACHING, 'CPU µs', {})
    yield Row('cached', cached, CACHING, 'CPU µs', {'total': 20_000 // few})
    yield Row('both families, cached', cached, [OURS, SURFACE], 'CPU µs', {'total': 20_000 // few, 'both': True})
    burst = {'in_flight': 50_000, 'total': 50_000 // few, 'warm_up': 0, 'files': 1024}
    yield Row(BURST.format(50_000 // few), uncached, CACHING, 'per second', burst)
    yield Row(KEPT.format(100_000 // few), kept, CACHING, 'bytes', {'total': 100_000 // few})
    silent, one_by_one = f'nameserver {DEAD}\n', {'in_flight': 1, 'total': 1 + 4 // few, 'warm_up': 1}
    yield Row(f'memory, {10_000 // few:,} in flight', waited_for, CACHING, 'bytes', {'total': 10_000 // few}, silent)
    yield Row('one of two nameservers dead', uncached, [*CACHING, THREADS], 'p50 ms', one_by_one, f'{silent}nameserver {GOOD}\n')


TARGETS = {  # of a measure of ours in a row, against a peer or another row: at least so much for speeds, at most for all else
    HUNDRED: [('per second', 'aiodns', 1.4), ('per second', PUBLISHED, 5), ('per second', 'dnspython', 10), ('CPU µs', FLOOR, 1.7)],
    BOTH: [('per second', 'aiodns', 1.5), ('per second', PUBLISHED, 6), ('CPU µs', HUNDRED, 1.7)],
    ONE: [('CPU µs', 'aiodns', 0.6)],
    THOUSAND: [('CPU µs', HUNDRED, 1.4)],
    MANY: [('CPU µs', HUNDRED, 1.8)],
    'import': [('CPU µs', 'aiodns', 0.5)],
    'cached': [('per second', PUBLISHED, 8), ('per second', 'dnspython', 14), ('per second', 'aiodns', 35)],
    BURST.format(50_000): [('per second', 'aiodns', 1)],
    KEPT.format(100_000): [('bytes', PUBLISHED, 0.5)],
}


def run_alone(measurement, peer, options, loop_name, path):
    """Runs one measurement, in a process that is there for nothing else."""
    sys.path[:0] = [path] if peer == PUBLISHED else []
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, options.pop('files', 65_536)), hard))
    before = min(CALIBRATION.repeat(number=1))
    result = importlib.import_module(loop_name).new_event_loop().run_until_complete(measurement(peer, **options))
    return {**result, 'calibration': max(before, *CALIBRATION.repeat(number=1))}


# --- All of it: the nameserver, the rounds and the tables ------------------------------------------------------------------------------


@contextlib.contextmanager
def nameserver(directory):
    """Runs an NSD with our zone. By default it answers no more than 200 queries a second."""
    (directory / 'zone').write_text(ZONE)
    (directory / 'nsd.conf').write_text(
        f'server:\n ip-address: {GOOD}\n username: ""\n zonesdir: {directory}\n database: ""\n pidfile: {directory}/pid\n'
        f' xfrdfile: {directory}/xfrd\n zonelistfile: {directory}/list\n rrl-ratelimit: 0\n server-count: 1\n'
        'remote-control:\n control-enable: no\nzone:\n name: example.com\n zonefile: zone\n'
    )
    command = ['taskset', '-c', str(max(os.sched_getaffinity(0))), '/usr/sbin/nsd', '-d', '-c', f'{directory}/nsd.conf']
    process = subprocess.Popen(command)
    try:
        while not (directory / 'pid').exists():
            if process.poll() is not None:
                raise SystemExit('NSD is needed, and did not start: apt-get install nsd')
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait()


def measure(row, peer, loop_name, directory):
    """One measurement in a process of its own."""
    (directory / 'resolv.conf').write_text(row.resolv_conf)
    task = run_alone, row.measurement, peer, row.options, loop_name, str(directory / 'published')
    try:
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            result = pool.submit(*task).result()
    except Exception as error:
        print(f'{peer} failed: {error!r}', file=sys.stderr)
        result = {'errors': row.options.get('total', 1), 'calibration': float('inf')}
    return {'row': row.name, 'peer': peer, 'main': result.get(row.main), **result}


def measure_all(chosen, rounds, loop_name, directory):
    results, fastest = [], float('inf')
    for row in chosen:
        for turn in range(rounds * len(row.peers)):
            peer = row.peers[(turn + turn // len(row.peers)) % len(row.peers)]
            for again in ('', ', again', ', again'):
                print(f'{row.name}: {peer}{again}', file=sys.stderr)
                result = measure(row, peer, loop_name, directory)
                fastest = min(fastest, result['calibration'])
                if result['errors'] or result['calibration'] <= 1.3 * fastest:
                    break
            results.append(result)
    return results


def summarize(results):
    """The medians over the rounds, by row and peer."""
    import pandas as pd

    rounds = pd.DataFrame(results).groupby(['row', 'peer'], sort=False)
    table = rounds.median()
    table['errors'] = rounds['errors'].max()
    table['spread'] = (rounds['main'].quantile(0.75) - rounds['main'].quantile(0.25)) / table['main']
    table['ratio'] = (table['main'] / table.groupby('row')['main'].transform('first')).where(table['errors'] == 0)
    return table.drop(columns=['main', 'calibration'])


def print_targets(table):
    """The ratios that the project has set itself, where both of what they compare were measured."""
    for row, targets in TARGETS.items():
        for measure, against, bound in targets:
            other = (against, OURS) if against in TARGETS else (row, against)
            if (row, OURS) in table.index and other in table.index:
                found, sign = table.loc[(row, OURS), measure] / table.loc[other, measure], '≥' if measure == 'per second' else '≤'
                print(f'{found:6.2f} {sign} {bound:<4} {row}: {measure}, against {against}')


def draw(table, path):
    import matplotlib as mpl

    mpl.rcParams['svg.fonttype'] = 'none'  # letters as text, not as outlines
    bars = table.loc[HUNDRED, 'CPU µs'].sort_values(ascending=False)
    title = 'CPU of the client for one uncached look-up, 100 in flight, in µs: less is better'
    axes = bars.plot.barh(title=title, color=['#1a7f37' if peer == OURS else '#57606a' for peer in bars.index], xlabel='', ylabel='')
    axes.bar_label(axes.containers[0], fmt='%.0f', padding=3)
    axes.figure.savefig(path, bbox_inches='tight')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='one round with few look-ups, to see that it works: its figures mean nothing')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--loop', choices=['asyncio', 'uvloop'], default='asyncio')
    parser.add_argument('--only', metavar='REGEX', default='', help="the rows whose name this is found in: '^cached$'")
    parser.add_argument('--svg', metavar='FILE', help='draw the row of 100 in flight')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        directory = pathlib.Path(name)
        pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--target', f'{name}/published', 'aiodnsresolver==0.0.157']
        if subprocess.run(pip, check=False).returncode:
            CACHING.remove(PUBLISHED)  # pip says why
        chosen = [row for row in rows(20 if options.quick else 1) if re.search(options.only, row.name)] or parser.error('no such row')
        (directory / 'resolv.conf').touch()
        mount = f'mount --make-rprivate / && mount --bind {name}/resolv.conf /etc/resolv.conf'
        if ctypes.CDLL(None).unshare(0x20000) or subprocess.run(mount, shell=True, check=False).returncode:  # CLONE_NEWNS
            raise SystemExit('A mount namespace is needed: run this by root, in a container with CAP_SYS_ADMIN')
        dead.bind((DEAD, 53))
        with nameserver(directory):
            table = summarize(measure_all(chosen, 1 if options.quick else options.rounds, options.loop, directory))
    versions = [f'{package} {importlib.metadata.version(package)}' for package in ('aiodns', 'dnspython', 'uvloop')]
    print(f'CPython {sys.version}, {os.cpu_count()} cores, {", ".join(versions)}, loop: {options.loop}\n')
    print(table.to_string(na_rep='', float_format='{:,.2f}'.format), end='\n\n')
    print_targets(table)
    if options.svg and HUNDRED in table.index:
        draw(table, options.svg)
    failed = [row.name for row in chosen if table['errors'].get((row.name, OURS), 1)]
    return f'aiodnsresolver failed at: {", ".join(failed)}' if failed else None


if __name__ == '__main__':
    sys.exit(main())
