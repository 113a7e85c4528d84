"""Measures aiodnsresolver beside what else asyncio programs look names up with, on loopback: `python benchmark.py --help`.

An NSD of our own, on the last core, has a wildcard zone. Each measurement runs in a process of its own, with all its threads on the
first core; the peers take turns, several rounds long, and medians are shown. A round that was slow, by a loop of plain Python that is
timed before and after, is run again, up to two more times. All peers are given the same nameserver, timeout and tries by their
arguments, aiodnsresolver by a hook; in the rows "by resolv.conf" and "one of two nameservers dead" all have them from that file, as
services do, so far as they read it. Answers are checked after the clock has stopped; what is wrong or missing counts as an error, and
not as a look-up "per second". "spread" is how far the middle half of the rounds is apart, "ratio" is to the first line of the row.
aiodnsresolver has at most 256 sockets open, its default, however many look-ups are in flight.
"""

import argparse
import asyncio
import contextlib
import functools
import gc
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TIMEOUT, TRIES = 2, 5
ADDRESS = '127.9.9.9'  # what every name of the zone has
ZONE = f'$TTL 3600\n@ SOA ns.bench. mail.bench. 1 3600 600 86400 60\n@ NS ns.bench.\n* A {ADDRESS}\n' + ''.join(
    f'chain{i} 0 CNAME {f"chain{i + 1}" if i < 4 else "end"}\n' for i in range(1, 5)
)
SYSTEM, DEAD = '127.8.15.53', '127.8.15.54'  # nameservers for those who can only be given a resolv.conf, which has no port but 53
NAMES = itertools.count()
OURS, PUBLISHED, FLOOR = 'aiodnsresolver', 'aiodnsresolver 0.0.157', 'floor: poller of its own'


# --- The peers: each makes a function of a name, given a nameserver or, for None, by the system's resolv.conf ---------------------------


def ours(server, **options):
    import aiodnsresolver

    async def get_nameservers(*_):
        for _ in range(TRIES):
            yield TIMEOUT, server

    resolve, _ = aiodnsresolver.Resolver(**({'get_nameservers': get_nameservers} if server else {}), **options)
    qtype = aiodnsresolver.TYPES.A
    return lambda name: resolve(name, qtype)


def published(server):
    return ours(server)  # in another directory, that comes first


def aiodns(server):
    import aiodns

    options = {'nameservers': [server[0]], 'udp_port': server[1], 'timeout': TIMEOUT, 'tries': TRIES} if server else {}
    resolver = aiodns.DNSResolver(**options)
    return lambda name: resolver.query_dns(name, 'A')


def dnspython(server):
    import dns.asyncresolver

    resolver = dns.asyncresolver.Resolver(configure=not server)
    resolver.cache = dns.resolver.LRUCache(1_000_000)
    if server:
        resolver.nameservers, resolver.port, resolver.timeout, resolver.lifetime = [server[0]], server[1], TIMEOUT, TIMEOUT * TRIES
    return lambda name: resolver.resolve(name, 'A', search=False)


def async_dns(server):
    import async_dns.core
    import async_dns.resolver

    client, address = async_dns.resolver.DNSClient(TIMEOUT * TRIES), async_dns.core.Address.parse('{}:{}'.format(*server))
    return lambda name: client.query(name, async_dns.core.types.A, address)


def getaddrinfo(_):
    loop = asyncio.get_running_loop()
    return lambda name: loop.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)


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
    PUBLISHED: published,
    'getaddrinfo in threads': getaddrinfo,
    FLOOR: floor_poller,
    'floor: add_reader': floor_reader,
}
CACHING = OURS, 'aiodns', 'dnspython', PUBLISHED
BY_SYSTEM = *CACHING, 'getaddrinfo in threads'


def is_right(answer):
    """Whether an answer, of whichever peer, holds the address."""
    if isinstance(answer, bytes):
        return answer.endswith(socket.inet_aton(ADDRESS))
    records = getattr(answer, 'answer', None) or getattr(answer, 'an', None) or answer
    return ADDRESS in ''.join(str(getattr(record, 'data', record)) for record in records)


# --- The rows: what is measured, in a process of its own ----------------------------------------------------------------------


async def lookups(look_up, names, in_flight):
    """Looks all names up, so many at a time, and says what it took."""
    names, answers, latencies = list(names), [], []
    waiting = iter(names)

    async def worker():
        for name in waiting:
            began = time.perf_counter()
            with contextlib.suppress(Exception):  # what has no answer is counted, below
                answers.append(await look_up(name))
            latencies.append(time.perf_counter() - began)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(min(in_flight, len(names)))))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    latencies.sort()
    errors = len(names) - sum(map(is_right, answers))
    centiles = {'p50 ms': latencies[len(latencies) // 2] * 1e3, 'p99 ms': latencies[len(latencies) * 99 // 100] * 1e3}
    return {'per second': (len(names) - errors) / wall, 'CPU µs': cpu / len(names) * 1e6, **centiles, 'errors': errors}


def fresh(count):
    return [f'n{os.getpid()}-{next(NAMES)}.bench' for _ in range(count)]


async def uncached(peer, server, in_flight, total):
    look_up = PEERS[peer](server)
    await lookups(look_up, fresh(min(100, total)), min(in_flight, 100))
    return await lookups(look_up, fresh(total), in_flight)


async def by_resolv_conf(peer, _, in_flight, total):
    return await uncached(peer, None, in_flight, total)


async def cached_with_hosts(peer, server, total, lines):
    import aiodnsresolver

    with tempfile.NamedTemporaryFile('w') as file:
        file.writelines(f'10.{i >> 16}.{i >> 8 & 255}.{i & 255} host{i}.lan\n' for i in range(lines))
        file.flush()
        aiodnsresolver.HOSTS = file.name
        began = time.perf_counter()
        await PEERS[peer](server)('x.bench')
        note = f'the first, which reads it: {(time.perf_counter() - began) * 1e3:.0f} ms'
        return {**await cached(peer, server, total), 'note': note}


async def cached(peer, server, total):
    look_up = PEERS[peer](server)
    right = is_right(await look_up('x.bench'))
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(total):
        await look_up('x.bench')
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {'per second': total / wall, 'CPU µs': cpu / total * 1e6, 'errors': 0 if right else total}


async def burst(peer, server, total):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    return await lookups(PEERS[peer](server), fresh(total), total)


def resident():
    return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()


async def memory(peer, server, total):
    look_up = ours(server, max_cache_size=total) if peer == OURS else PEERS[peer](server)
    await lookups(look_up, fresh(200), 100)
    gc.collect()
    before = resident()
    for _ in range(total // 1000):
        result = await lookups(look_up, fresh(1000), 100)
    gc.collect()
    used, began = resident() - before, time.perf_counter()
    gc.collect()
    return {'errors': result['errors'], 'bytes': used / total, 'note': f'full gc {(time.perf_counter() - began) * 1e3:.0f} ms'}


async def in_flight_memory(peer, server, total):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(('127.0.0.1', 0))
        look_up = PEERS[peer](silent.getsockname())
        gc.collect()
        before = resident()
        tasks = [asyncio.ensure_future(look_up(name)) for name in fresh(total)]
        await asyncio.sleep(0.5)
        result = {'bytes': (resident() - before) / total, 'errors': sum(task.done() for task in tasks)}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return result


async def dead(peer, _, total):
    look_up = PEERS[peer](None)
    await lookups(look_up, fresh(1), 1)
    return await lookups(look_up, fresh(total), 1)


async def chain(peer, server, total, control):
    look_up = PEERS[peer](server)
    before = queries(control)
    result = await lookups(look_up, ['chain1.bench'] * total, 1)
    return {**result, 'note': f'{(queries(control) - before) / total:.2f} queries each'}


def queries(control):
    stats = subprocess.run([*control, 'stats_noreset'], capture_output=True, text=True, check=True).stdout
    return int(dict(line.split('=') for line in stats.split())['num.queries'])


def rows(quick, control):
    """Each row: what it is called, its function and arguments, the peers, and the measure that its ratios are of."""
    few = 20 if quick else 1
    everyone, without_floors = list(PEERS), [peer for peer in PEERS if 'floor' not in peer]
    for in_flight, total in ((1, 2000), (10, 4000), (100, 6000), (1000, 10_000), (10_000, 20_000)):
        peers = everyone if in_flight <= 100 else [peer for peer in everyone if peer != 'getaddrinfo in threads']
        yield f'uncached, {in_flight:,} in flight', uncached, [in_flight, total // few], peers, 'CPU µs'
    yield 'uncached, 100 in flight, by resolv.conf', by_resolv_conf, [100, 6000 // few], BY_SYSTEM, 'CPU µs'
    yield 'cached', cached, [20_000 // few], CACHING, 'CPU µs'
    for lines in (10, 10_000, 1_000_000 // few):
        yield f'cached, hosts file of {lines:,} lines', cached_with_hosts, [20_000 // few, lines], [OURS], 'CPU µs'
    pooled = [peer for peer in without_floors if peer != 'getaddrinfo in threads']
    yield f'burst of {50_000 // few:,}, ulimit -n 1024', burst, [50_000 // few], pooled, 'per second'
    yield f'memory, {100_000 // few:,} names cached', memory, [100_000 // few], CACHING, 'bytes'
    yield f'memory, {1_000_000 // few:,} names cached', memory, [1_000_000 // few], [OURS], 'bytes'
    yield f'memory, {10_000 // few:,} in flight', in_flight_memory, [10_000 // few], CACHING, 'bytes'
    yield 'one of two nameservers dead', dead, [2 if quick else 5], BY_SYSTEM, 'p50 ms'
    yield 'chain of four aliases', chain, [1000 // few, control], pooled, 'p50 ms'


def child(peer, function, arguments, server, loop_name, path):
    """One measurement, printed as JSON."""
    sys.path[:0] = [path] if path else []
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    loop = __import__(loop_name).new_event_loop()
    before = calibrate()
    result = loop.run_until_complete(globals()[function](peer, server and tuple(server), *arguments))
    print(json.dumps({**result, 'calibration': max(before, calibrate())}))
    sys.stdout.flush()
    os._exit(0)  # what a peer leaves open is not for its measurement


def calibrate():
    def once():
        began = time.process_time()
        sum(i * i for i in range(100_000))
        return time.process_time() - began

    return min(once() for _ in range(5))


# --- All of it: the nameserver, the rounds and the tables ------------------------------------------------------------------------


def has_namespaces():
    """Whether a process can be given an /etc/resolv.conf of its own, which takes root and in a container a capability."""
    command = ['unshare', '--mount', 'mount', '--bind', '/etc/hosts', '/etc/resolv.conf']
    return os.getuid() == 0 and not subprocess.run(command, capture_output=True, check=False).returncode


@contextlib.contextmanager
def nameserver(directory):
    """NSD with our zone; gives its address and the command that controls it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(('127.0.0.1', 0))
        udp.bind(server := tcp.getsockname())
    (directory / 'bench.zone').write_text(ZONE)
    addresses = ' ip-address: {}@{}\n'.format(*server) + (f' ip-address: {SYSTEM}@53\n' if os.getuid() == 0 else '')
    (directory / 'nsd.conf').write_text(
        f'server:\n{addresses} username: ""\n zonesdir: {directory}\n database: ""\n pidfile: {directory}/pid\n server-count: 1\n'
        f' xfrdfile: {directory}/xfrd\n zonelistfile: {directory}/list\n logfile: {directory}/log\n rrl-ratelimit: 0\n'
        f'remote-control:\n control-enable: yes\n control-interface: {directory}/control\nzone:\n name: bench\n zonefile: bench.zone\n'
    )  # (by default NSD answers no more than 200 queries a second)
    core = str(max(os.sched_getaffinity(0)))
    nsd = shutil.which('nsd', path=f'{os.environ["PATH"]}:/usr/sbin')
    if not nsd:
        raise SystemExit('NSD is needed: apt-get install nsd')
    process = subprocess.Popen(['taskset', '-c', core, nsd, '-d', '-c', f'{directory}/nsd.conf'], stderr=subprocess.DEVNULL)
    control = [f'{nsd}-control', '-c', f'{directory}/nsd.conf']
    try:
        while subprocess.run([*control, 'status'], capture_output=True, check=False).returncode:
            if process.poll() is not None:
                raise SystemExit(f'nsd did not start: {(directory / "log").read_text()}')
            time.sleep(0.1)
        yield server, control
    finally:
        process.terminate()
        process.wait()


BY_FILE_ALONE = dead, by_resolv_conf


def measure(peer, function, arguments, server, options, directory):
    """One measurement in a process of its own; or None, when the peer is not there."""
    by_system = function in BY_FILE_ALONE or PEERS[peer] is getaddrinfo
    path = str(directory / 'published') if PEERS[peer] is published else None
    call = [peer, function.__name__, arguments, None if by_system else server, options.loop, path]
    command = [sys.executable, __file__, '--child', json.dumps(call)]
    if by_system:  # in a mount namespace, where /etc/resolv.conf is another file
        options_line = f'options timeout:{TIMEOUT} attempts:{TRIES}'
        lines = [f'nameserver {DEAD}', f'nameserver {SYSTEM}'] if function is dead else [f'nameserver {SYSTEM}', options_line]
        (directory / 'resolv.conf').write_text('\n'.join([*lines, '']))
        bind = f'mount --bind {directory}/resolv.conf /etc/resolv.conf && exec "$@"'
        command = ['unshare', '--mount', 'sh', '-c', bind, 'sh', *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f'{peer} is left out: {(done.stderr.strip() or "no result").splitlines()[-1]}', file=sys.stderr)
        return None
    return json.loads(done.stdout)


def run_row(name, function, arguments, peers, server, options, directory):
    """All rounds of a row: the results of each peer."""
    results = {peer: [] for peer in peers}
    rounds = 1 if options.quick or arguments[0] >= 1_000_000 else options.rounds
    best = float('inf')
    for number in range(rounds + 2):
        for peer in list(results):
            if len(results[peer]) >= rounds:
                continue
            print(f'{name}: {peer}, round {number + 1}', file=sys.stderr)
            result = measure(peer, function, arguments, server, options, directory)
            if result is None:
                del results[peer]
                continue
            best = min(best, result['calibration'])
            if result['calibration'] <= 1.3 * best or number >= rounds or options.quick:
                results[peer].append(result)
    return results


def summarize(results, main_measure):
    """Medians of each measure, and how far the middle half of the rounds is apart."""
    summary = {}
    for peer, rounds in results.items():
        measures = [key for key in rounds[0] if isinstance(rounds[0][key], (int, float)) and key != 'calibration']
        summary[peer] = {key: statistics.median(result[key] for result in rounds) for key in measures}
        summary[peer]['errors'] = max(result.get('errors', 0) for result in rounds)
        summary[peer]['note'] = rounds[-1].get('note', '')
        main = [result[main_measure] for result in rounds]
        quartiles = statistics.quantiles(main, n=4) if len(main) > 1 else main
        middle = statistics.median(main)
        summary[peer]['spread'] = (quartiles[-1] - quartiles[0]) / middle * 100 if middle else 0  # nothing was resolved
    return summary


COLUMNS = {'per second': 0, 'CPU µs': 2, 'p50 ms': 2, 'p99 ms': 2, 'bytes': 0, 'errors': 0}  # and their digits after the point


def print_row(name, summary, main_measure):
    reference = summary.get(OURS, {}).get(main_measure)
    for peer, found in summary.items():
        cells = [f'{found[key]:,.{digits}f}' if key in found else '' for key, digits in COLUMNS.items()]
        ratio = f'{found[main_measure] / reference:.2f}' if reference else ''
        print('|', ' | '.join([name, peer, *cells, f'{found["spread"]:.0f} %', ratio, found['note']]), '|', flush=True)


ONE, HUNDRED, THOUSAND, MANY = (f'uncached, {in_flight:,} in flight' for in_flight in (1, 100, 1000, 10_000))
BY_FILE = f'{HUNDRED}, by resolv.conf'
BURST, KEPT = 'burst of 50,000, ulimit -n 1024', 'memory, 100,000 names cached'
FASTER_THAN = {'aiodns': 1.3, PUBLISHED: 5, 'dnspython': 12}
TARGETS = [  # a measure of ours in a row, against a peer in a row; for speeds at least the bound, else at most
    *(('per second', row, peer, row, bound) for row in (BY_FILE, HUNDRED) for peer, bound in FASTER_THAN.items()),
    ('CPU µs', ONE, 'aiodns', ONE, 0.6),
    ('CPU µs', HUNDRED, FLOOR, HUNDRED, 1.7),
    ('CPU µs', THOUSAND, OURS, HUNDRED, 1.4),
    ('CPU µs', MANY, OURS, HUNDRED, 1.8),
    ('per second', 'cached', PUBLISHED, 'cached', 8),
    ('per second', 'cached', 'dnspython', 'cached', 14),
    ('per second', 'cached', 'aiodns', 'cached', 35),
    ('per second', BURST, 'aiodns', BURST, 1),
    ('bytes', KEPT, PUBLISHED, KEPT, 0.5),
]


def print_targets(table):
    """The ratios that the project has set itself, where both of what they compare were measured."""
    print('\n| target | bound | found |\n|---|---|---|')
    for measure, row, peer, other_row, bound in TARGETS:
        one, other = (table.get(place, {}).get(who, {}).get(measure) for place, who in ((row, OURS), (other_row, peer)))
        if one and other:
            against = peer if row == other_row else other_row
            print(f'| {row}: {measure}, against {against} | {"≥" if measure == "per second" else "≤"} {bound} | {one / other:.2f} |')


def draw(summary):
    """The picture of a row: a bar for the CPU time of each peer."""
    bars = sorted((found['CPU µs'], peer) for peer, found in summary.items())
    title = 'CPU of the client for one uncached look-up, 100 in flight, in µs: less is better'
    size = f'width="640" height="{len(bars) * 30 + 40}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">']
    parts.append(f'<rect width="100%" height="100%" fill="white"/><text x="10" y="22">{title}</text>')
    for i, (value, peer) in enumerate(bars):
        y, width = 36 + 30 * i, value / bars[-1][0] * 360
        colour = '#1a7f37' if peer == OURS else '#bbbbbb' if 'floor' in peer else '#57606a'
        parts.append(f'<text x="180" y="{y + 15}" text-anchor="end">{peer}</text>')
        parts.append(f'<rect x="190" y="{y}" width="{width:.0f}" height="20" fill="{colour}"/>')
        parts.append(f'<text x="{196 + width:.0f}" y="{y + 15}">{value:.0f}</text>')
    return '\n'.join([*parts, '</svg>\n'])


def machine():
    model = re.search(r'model name\s*: (.*)', pathlib.Path('/proc/cpuinfo').read_text())
    parts = [f'CPython {platform.python_version()}', f'{os.cpu_count()} × {model[1] if model else "unknown"}']
    for peer in ('aiodns', 'pycares', 'dnspython', 'async_dns', 'uvloop'):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            parts.append(f'{peer} {importlib.metadata.version(peer)}')
    return ', '.join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='one round with few look-ups, to see that it works')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--loop', choices=['asyncio', 'uvloop'], default='asyncio')
    parser.add_argument('--only', metavar='REGEX', default='', help="the rows whose name this is found in: '^cached$'")
    parser.add_argument('--json', action='store_true', help='print JSON in place of the tables')
    parser.add_argument('--svg', metavar='FILE', help='draw the row of 100 in flight')
    parser.add_argument('--child', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*json.loads(options.child))
    table = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = pathlib.Path(name)
        pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--target', str(directory / 'published'), 'aiodnsresolver==0.0.157']
        if subprocess.run(pip, stdout=subprocess.DEVNULL, check=False).returncode:
            print(f'{PUBLISHED} is left out: pip cannot get it', file=sys.stderr)
            del PEERS[PUBLISHED]
        server, control = stack.enter_context(nameserver(directory))
        if by_file := has_namespaces():
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((DEAD, 53))
        else:
            print('What can only be given a resolv.conf is left out: that takes root and mount namespaces', file=sys.stderr)
            del PEERS['getaddrinfo in threads']
        if not options.json:
            print(f'{machine()}, loop: {options.loop}\n\n| row | who | {" | ".join(COLUMNS)} | spread | ratio | |')
            print(f'|---|---|{"--:|" * (len(COLUMNS) + 2)}---|')
        for row, function, arguments, peers, main_measure in rows(options.quick, control):
            if re.search(options.only, row) and (by_file or function not in BY_FILE_ALONE):
                present = [peer for peer in peers if peer in PEERS]
                table[row] = summarize(run_row(row, function, arguments, present, server, options, directory), main_measure)
                if not options.json:
                    print_row(row, table[row], main_measure)
    if options.json:
        print(json.dumps({'machine': machine(), 'loop': options.loop, 'rows': table}, indent=1, ensure_ascii=False))
    else:
        print_targets(table)
    if options.svg and HUNDRED in table:
        pathlib.Path(options.svg).write_text(draw(table[HUNDRED]), encoding='utf-8')
    failed = [row for row, found in table.items() if found.get(OURS, {'errors': 1})['errors']]
    return f'aiodnsresolver failed at: {", ".join(failed)}' if failed else None


if __name__ == '__main__':
    sys.exit(main())
