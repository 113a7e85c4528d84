"""Compares aiodnsresolver with the other ways to resolve names in asyncio. For Linux, root, loopback only.

NSD serves a wildcard zone on the last core: all names have the same addresses. The peers find it by /etc/resolv.conf, which is replaced
in a private mount namespace; the floor has its address built in. Each measurement runs in a new process on the first core. Each round
starts with another peer; medians are shown. If a timed loop of plain Python, before or after it, was slow, a measurement is repeated, at
most twice; "slow" is how slow the worst loop was that is left, to the fastest. Answers are checked after the clock has stopped: a wrong
or missing one is an error. CPU and p50 are for each right answer, and a peer with errors has no ratio. "ratio" is the main figure of the
row (CPU, look-ups a second for the burst, bytes, p50 for the dead nameserver) to that of the first peer; "spread" is its interquartile
range to its median. The exit status is 1 where a target is missed. aiodnsresolver opens at most 256 sockets at once and queues the rest.
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
LIVE, SILENT = '127.8.15.53', '127.8.15.54'  # nameservers, at port 53, the only one that a resolv.conf can name
RESOLV_CONF = f'nameserver {LIVE}\noptions timeout:2 attempts:5\n'
OURS, PUBLISHED, OUR_GETADDRINFO = 'aiodnsresolver', 'aiodnsresolver 0.0.157', 'getaddrinfo of aiodnsresolver'
THREADS, FLOOR, OUR_HOOK = 'getaddrinfo in threads', 'floor', 'aiodnsresolver, by a hook'
CALIBRATION = timeit.Timer('sum(i * i for i in range(100_000))')


# --- The peers: as in timeit, a setup, and what is timed: an IPv4 look-up, and one of both families ------------------------------------


def floor():
    """The least that a client can do: it sends a question over a new socket, and reads the reply, with an epoll object of its own."""
    loop, epoll, futures = asyncio.get_running_loop(), select.epoll(), {}

    def dispatch():
        for fd, _ in epoll.poll(0):
            futures.pop(fd).set_result(None)

    async def ask(name):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((LIVE, 53))
            question = b''.join(bytes([len(label)]) + label for label in name.encode().split(b'.'))
            sock.send(b'\1\2\1\0\0\1\0\0\0\0\0\0' + question + b'\0\0\1\0\1')
            future = futures[sock.fileno()] = loop.create_future()
            epoll.register(sock.fileno(), select.EPOLLIN)
            await future
            return sock.recv(512)

    loop.add_reader(epoll.fileno(), dispatch)
    return ask


STREAM = 'type=socket.SOCK_STREAM'
HOOK = """
from aiodnsresolver import *
async def hook(_):
    for _ in range(5):
        yield 2, (LIVE, 53)
resolve, _ = Resolver(get_nameservers=hook)
"""
PEERS = {
    OURS: (
        'from aiodnsresolver import *; resolve, _ = Resolver(max_cache_size=CACHE)',
        'resolve(name, TYPES.A)',
        'resolve(name, (TYPES.A, TYPES.AAAA))',
    ),
    'aiodns': ('import aiodns; r = aiodns.DNSResolver()', 'r.query_dns(name, "A")', f'r.getaddrinfo(name, socket.AF_UNSPEC, {STREAM})'),
    'dnspython': (
        'import dns.asyncresolver as m; r = m.Resolver(); r.cache, r.lifetime = m.dns.resolver.LRUCache(10 * CACHE), 10',
        'r.resolve(name, "A")',
        'gather(r.resolve(name, "A"), r.resolve(name, "AAAA"))',
    ),
    PUBLISHED: (
        'from aiodnsresolver import *; resolve, _ = Resolver()',
        'resolve(name, TYPES.A)',
        'gather(resolve(name, TYPES.A), resolve(name, TYPES.AAAA))',
    ),
    'blastdns': (
        'import blastdns; r = blastdns.Client(blastdns.get_system_resolvers())',
        'r.resolve(name, "A")',
        'gather(r.resolve(name, "A"), r.resolve(name, "AAAA"))',
    ),
    OUR_GETADDRINFO: ('from aiodnsresolver import *; resolve, _ = Resolver()', '', f'getaddrinfo(resolve, name, 80, {STREAM})'),
    OUR_HOOK: (HOOK, 'resolve(name, TYPES.A)', 'resolve(name, (TYPES.A, TYPES.AAAA))'),
    THREADS: ('r = asyncio.get_running_loop().getaddrinfo', f'r(name, 80, family=socket.AF_INET, {STREAM})', f'r(name, 80, {STREAM})'),
    FLOOR: ('ask = floor()', 'ask(name)'),
}
RESOLVERS = [OURS, 'aiodns', 'dnspython', PUBLISHED, 'blastdns']


def start(peer, both=False, cache=10_000):
    setup, *timed = PEERS[peer]
    namespace = {**globals(), 'CACHE': cache, 'gather': asyncio.gather}
    exec(setup, namespace)
    return eval(f'lambda name: {timed[both]}', namespace)


def is_right(answer, both=False):
    """Whether the answer of any of the peers holds the expected addresses."""
    if isinstance(answer, bytes):
        return socket.inet_aton(ADDRESS) in answer
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
    failures = collections.Counter(repr(answer)[:80] for _, answer in found if isinstance(answer, Exception))
    print(*failures.most_common(3), file=sys.stderr, end='\n' if failures else '')
    per_answer = {'CPU µs': cpu / len(times) * 1e6, 'p50 ms': statistics.median(times) * 1e3} if times else {}
    return {'per second': len(times) / wall, 'errors': len(names) - len(times), **per_answer}


async def uncached(peer, total, in_flight, warm_up=100, both=False):
    look_up, names = start(peer, both), [NAME.format(i) for i in range(warm_up + total)]
    warm = await look_all_up(look_up, names[:warm_up], min(in_flight, 100), both) if warm_up else {'errors': 0}
    result = await look_all_up(look_up, names[warm_up:], in_flight, both)
    return {**result, 'errors': result['errors'] + warm['errors']}


async def cached(peer, total, both=False):
    look_up, name = start(peer, both), NAME.format(0)
    await look_up(name)
    cpu, wall = time.process_time(), time.perf_counter()
    answers = [await look_up(name) for _ in range(total)]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    right = sum(is_right(answer, both) for answer in answers)
    return {'per second': right / wall, 'CPU µs': cpu / total * 1e6, 'errors': total - right}


async def calls(peer, total, both=False):
    """The calls of an uncached look-up, of Python and of C functions, with one in flight: they do not depend on the machine."""
    look_up, names, counts = start(peer, both), [NAME.format(i) for i in range(total)], collections.Counter()
    await look_up(NAME.format('warm'))
    sys.setprofile(lambda _, event, __: counts.update([event]))
    answers = [await look_up(name) for name in names]
    sys.setprofile(None)
    figures = {'calls': (counts['call'] + counts['c_call']) / total, 'of Python': counts['call'] / total}
    return {**figures, 'errors': sum(not is_right(answer, both) for answer in answers)}


async def imported(peer):
    """The CPU time of an import after that of asyncio; the second time, when there are .pyc files."""
    code = f'import asyncio, time; began = time.process_time(); {PEERS[peer][0].partition(";")[0]}; print(time.process_time() - began)'
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), 'PYTHONDONTWRITEBYTECODE': ''}
    seconds = [subprocess.check_output([sys.executable, '-c', code], env=env) for _ in range(2)][1]  # noqa: ASYNC221
    return {'CPU µs': float(seconds) * 1e6, 'errors': 0}


def resident():
    gc.collect()
    return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


async def memory(peer, total, at_once=100, timeout=None):
    """The memory for each name: that is cached or, when the time is up, still waited for."""
    look_up, before, errors = start(peer, cache=total), resident(), 0
    for first in range(0, total, at_once):
        tasks = [asyncio.ensure_future(look_up(NAME.format(i))) for i in range(first, first + at_once)]
        done, waiting = await asyncio.wait(tasks, timeout=timeout)
        errors += sum(task.exception() is not None or not is_right(task.result()) for task in done)
    result = {'bytes': (resident() - before) / total, 'errors': errors}
    for task in waiting:
        task.cancel()
    await asyncio.wait(tasks)
    return result


Row = collections.namedtuple('Row', 'name measurement peers figure options resolv_conf', defaults=[RESOLV_CONF])
ONE, HUNDRED, THOUSAND, MANY = (f'uncached, {in_flight:,} in flight' for in_flight in (1, 100, 1000, 10_000))
CALLS, CALLS_BOTH = 'calls of a look-up', 'calls of a look-up of both families'
BOTH, BURST, KEPT = 'both families, 100 in flight', 'burst of {:,}, ulimit -n 1024', 'memory, {:,} names cached'


def rows(divisor):
    """All rows; the divisor is of their number of look-ups."""
    for name, in_flight, total in ((ONE, 1, 2000), (HUNDRED, 100, 6000), (THOUSAND, 1000, 10_000), (MANY, 10_000, 20_000)):
        peers = [*RESOLVERS, *([THREADS] if in_flight <= 100 else []), FLOOR]
        yield Row(name, uncached, peers, 'CPU µs', {'in_flight': in_flight, 'total': total // divisor})
    yield Row(BOTH, uncached, [*RESOLVERS, OUR_GETADDRINFO, THREADS], 'CPU µs', {'in_flight': 100, 'total': 6000 // divisor, 'both': True})
    for name, both in ((CALLS, False), (CALLS_BOTH, True)):
        yield Row(name, calls, [OUR_HOOK, OURS], 'calls', {'total': 400 // divisor, 'both': both})
    yield Row('import', imported, RESOLVERS, 'CPU µs', {})
    yield Row('cached', cached, RESOLVERS, 'CPU µs', {'total': 20_000 // divisor})
    yield Row('both families, cached', cached, [OURS, OUR_GETADDRINFO], 'CPU µs', {'total': 20_000 // divisor, 'both': True})
    burst = {'in_flight': 50_000, 'total': 50_000 // divisor, 'warm_up': 0, 'files': 1024}
    yield Row(BURST.format(50_000 // divisor), uncached, RESOLVERS, 'per second', burst)
    yield Row(KEPT.format(100_000 // divisor), memory, RESOLVERS, 'bytes', {'total': 100_000 // divisor})
    silent, half_dead = RESOLV_CONF.replace(LIVE, SILENT), f'nameserver {SILENT}\n{RESOLV_CONF}'
    waiting = {'total': 1000, 'at_once': 1000, 'timeout': 0.45}  # so that none has timed out
    yield Row('memory, 1,000 in flight', memory, RESOLVERS, 'bytes', waiting, silent)
    yield Row('one of two dead, later', uncached, [*RESOLVERS, THREADS], 'p50 ms', {'total': 5, 'in_flight': 1, 'warm_up': 1}, half_dead)


TARGETS = {  # row: figure, the peer or the other row that ours is divided by, and the bound: the least for speeds, else the most
    HUNDRED: [
        *[('per second', peer, bound) for peer, bound in (('aiodns', 1.4), (PUBLISHED, 4.5), ('dnspython', 10), ('blastdns', 2))],
        ('CPU µs', FLOOR, 1.7),
    ],
    BOTH: [('per second', 'aiodns', 1.25), ('per second', PUBLISHED, 5)],
    ONE: [('CPU µs', 'aiodns', 0.6)],
    THOUSAND: [('CPU µs', HUNDRED, 1.4)],
    MANY: [('CPU µs', HUNDRED, 1.8)],
    'import': [('CPU µs', 'aiodns', 0.5)],
    'cached': [('per second', PUBLISHED, 3.5), ('per second', 'dnspython', 7), ('per second', 'aiodns', 30)],
    BURST.format(50_000): [('per second', 'aiodns', 1.3)],
    KEPT.format(100_000): [('bytes', PUBLISHED, 0.5)],
}


def run_alone(measurement, peer, options, loop_name, published):
    """Runs one measurement, in a process that is there for nothing else."""
    sys.path[:0] = [published] if peer == PUBLISHED else []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, options.pop('files', 65_536)), hard))
    return importlib.import_module(loop_name).new_event_loop().run_until_complete(measurement(peer, **options))


# --- All of it: the nameserver, the rounds and the tables ------------------------------------------------------------------------------


@contextlib.contextmanager
def nameserver(directory):
    """Runs an NSD with our zone, without its default limit of 200 replies a second."""
    (directory / 'zone').write_text(ZONE)
    (directory / 'nsd.conf').write_text(
        f'server:\n ip-address: {LIVE}\n username: ""\n zonesdir: {directory}\n database: ""\n pidfile: {directory}/pid\n'
        f' xfrdfile: {directory}/xfrd\n zonelistfile: {directory}/list\n rrl-ratelimit: 0\n server-count: 1\n'
        'remote-control:\n control-enable: no\nzone:\n name: example.com\n zonefile: zone\n'
    )
    command = ['taskset', '-c', str(max(os.sched_getaffinity(0))), '/usr/sbin/nsd', '-d', '-c', f'{directory}/nsd.conf']
    with subprocess.Popen(command) as process:
        try:
            while not (directory / 'pid').exists():
                if process.poll() is not None:
                    raise SystemExit('NSD is needed, and did not start: apt-get install nsd')
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def measure(row, peer, loop_name, directory):
    """One measurement in a process of its own."""
    (directory / 'resolv.conf').write_text(row.resolv_conf)
    task, before = (row.measurement, peer, row.options, loop_name, str(directory / 'published')), CALIBRATION.timeit(10)
    try:
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
            result = pool.submit(run_alone, *task).result()
    except Exception as error:
        print(f'{peer} failed: {error!r}', file=sys.stderr)
        result = {'errors': row.options.get('total', 1)}
    result |= {'row': row.name, 'peer': peer, 'slow': max(before, CALIBRATION.timeit(10))}
    return {'figure': result.get(row.figure, float('nan')), **result}


def measure_all(chosen, rounds, loop_name, directory):
    results, fastest = [], CALIBRATION.timeit(10)
    for number in range(rounds):
        for row in chosen:
            first = number % len(row.peers)
            for peer in row.peers[first:] + row.peers[:first]:
                for again in ('', ', again', ', again'):
                    print(f'{row.name}: {peer}, round {number + 1}{again}', file=sys.stderr)
                    result = measure(row, peer, loop_name, directory)
                    fastest = min(fastest, result['slow'])
                    if result['errors'] or result['slow'] <= 1.2 * fastest:
                        break
                results.append(result)
    return results


def report(results):
    """Prints the medians over the rounds, and the targets of the project where both sides were measured without errors.

    Returns the table, and the rows whose target was missed."""
    import pandas as pd

    rounds = pd.DataFrame(results).groupby(['row', 'peer'], sort=False)
    table = rounds.median()
    table['errors'], table['slow'] = rounds['errors'].sum(), rounds['slow'].max() / min(result['slow'] for result in results)
    table['spread'] = (rounds['figure'].quantile(0.75) - rounds['figure'].quantile(0.25)) / table['figure']
    figures = table['figure'].where(table['errors'] == 0)
    table['ratio'] = figures / figures.groupby(level='row').transform(lambda each: each.iloc[0])
    missed = []
    print(table.drop(columns='figure').to_string(na_rep='', float_format='{:,.2f}'.format), end='\n\n')
    for row, targets in TARGETS.items():
        for figure, against, bound in targets:
            other = (row, against) if against in PEERS else (against, OURS)
            if {(row, OURS), other} <= set(table.index[table['errors'] == 0]):
                found, sign = table.loc[(row, OURS), figure] / table.loc[other, figure], '≥' if figure == 'per second' else '≤'
                print(f'{found:6.2f} {sign} {bound:<4} {row}: {figure}, against {against}')
                missed += [row] if (found < bound if sign == '≥' else found > bound) else []
    return table, missed


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
    peers = ' '.join(f'{name} {importlib.metadata.version(name)}' for name in ('aiodns', 'pycares', 'dnspython', 'blastdns'))
    print(f'CPython {sys.version}, {os.cpu_count()} cores, {peers}, loop: {options.loop}\n')
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dead:
        directory = pathlib.Path(name)
        pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--target', f'{name}/published', 'aiodnsresolver==0.0.157']
        if subprocess.run(pip, check=False).returncode:
            RESOLVERS.remove(PUBLISHED)  # pip says why
        chosen = [row for row in rows(20 if options.quick else 1) if re.search(options.only, row.name)] or parser.error('no such row')
        (directory / 'resolv.conf').touch()
        mount = f'mount --make-rprivate / && mount --bind {name}/resolv.conf /etc/resolv.conf'
        if ctypes.CDLL(None).unshare(0x20000) or subprocess.run(mount, shell=True, check=False).returncode:  # CLONE_NEWNS
            raise SystemExit('A mount namespace is needed: run this as root, in a container with CAP_SYS_ADMIN')
        dead.bind((SILENT, 53))
        with nameserver(directory):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            table, missed = report(measure_all(chosen, 1 if options.quick else options.rounds, options.loop, directory))
    if options.svg and HUNDRED in table.index:
        draw(table, options.svg)
    failed = [row.name for row in chosen if table['errors'].get((row.name, OURS), 1)]
    failed += [] if options.quick else [f'the target of {row}' for row in missed]
    return f'aiodnsresolver failed at: {", ".join(failed)}' if failed else None


if __name__ == '__main__':
    sys.exit(main())
