"""The fault matrix: one row a fault. `HEADRACE_FAULTS=full pytest tests/faults/matrix -k NAME` runs single rows."""

from __future__ import annotations

from functools import partial

from tests.faults.matrix import clocks, engines, hints, limits, signals, store_faults, visitors
from tests.faults.matrix.row import Row
from tests.faults.matrix.signals import kill, kill_again, kill_one_after_the_other, kill_while_stopped, stop, term
from tests.faults.matrix.store_faults import again_and_again, away, configured, half_open, paused, proxied

#: All processes of a system, by the names that faults use.
PROCESSES = ("engine", "worker", "agent", "keeper", "web", "rpc", "provider", "redis")
#: Rows of `make test`.
SHORT = {
    *("kill_worker_and_keeper", "kill_web_and_redis", "redis_away_3s", "redis_out_of_memory_5s"),
    *("scripts_flushed_and_connections_cut", "hints_lost"),
}
_Chaos = partial(Row, chaos=True)
_SHORT_STOP_S, _LONG_STOP_S = 1.0, 6.0

PROCESS_ROWS = (
    Row("no_fault", engines.rest(1.0)),
    *(_Chaos(f"kill_{name}", kill(name)) for name in PROCESSES),
    *(_Chaos(f"term_{name}", term(name)) for name in PROCESSES),
    *(_Chaos(f"stop_{name}_short", stop(name, for_s=_SHORT_STOP_S), _SHORT_STOP_S) for name in PROCESSES),
    *(_Chaos(f"stop_{name}_long", stop(name, for_s=_LONG_STOP_S), _LONG_STOP_S) for name in PROCESSES),
)
PAIR_ROWS = (
    *(
        _Chaos(f"kill_{'_and_'.join(names)}", kill(*names))
        for names in (
            *(("engine", "redis"), ("worker", "redis"), ("worker", "keeper"), ("worker", "agent"), ("web", "redis")),
            *(("web", "worker"), ("web", "keeper"), ("rpc", "worker"), ("provider", "redis"), ("provider", "keeper")),
            *(("agent", "keeper"), ("engine", "agent"), ("redis", "keeper", "agent"), ("web", "rpc", "keeper")),
        )
    ),
    _Chaos("kill_all_workers", kill("workers")),
    _Chaos("kill_all_engines", kill("engines")),
    Row("kill_engine_then_redis", kill_one_after_the_other("engine", "redis", pause_s=0.012)),
    Row("kill_redis_then_worker", kill_one_after_the_other("redis", "worker", pause_s=0.05)),
    _Chaos("kill_worker_twice", kill_again("worker", pause_s=1.5)),
    _Chaos("kill_engines_twice", kill_again("engines", pause_s=1.5)),
    Row("kill_worker_while_keeper_stopped", kill_while_stopped("worker", "keeper", for_s=8.0), 8.0),
    Row("kill_worker_while_agent_stopped", kill_while_stopped("worker", "agent", for_s=8.0), 8.0),
    # All processes start at once.
    Row("kill_everything", signals.kill_everything, late_s=40),
)
STORE_ROWS = (
    _Chaos("redis_away_3s", away(3), 3),
    Row("redis_away_20s", away(20), 20),
    Row("redis_away_60s", away(60), 60),
    Row("redis_stopped_20s", stop("redis", for_s=20), 20),
    _Chaos("redis_paused_4s", paused(4, writes_only=False), 4),
    _Chaos("redis_writes_paused_4s", paused(4, writes_only=True), 4),
    _Chaos("redis_out_of_memory_5s", configured("maxmemory", "1", "0", for_s=5), 5),
    Row("redis_out_of_memory_20s", configured("maxmemory", "1", "0", for_s=20), 20),
    _Chaos("redis_without_replicas_5s", configured("min-replicas-to-write", "1", "0", for_s=5), 5),
    _Chaos("redis_read_only_5s", store_faults.read_only(5), 5),
    _Chaos("scripts_flushed", again_and_again(store_faults.flush_scripts, for_s=4, every_s=0.1), 4),
    _Chaos("connections_cut", again_and_again(store_faults.cut_connections, for_s=4, every_s=0.2), 4),
    Row(
        "scripts_flushed_and_connections_cut",
        again_and_again(store_faults.flush_and_cut, for_s=8, every_s=0.12),
        8,
        also=hints.more,
    ),
    _Chaos("redis_without_its_last_moments", store_faults.without_its_last_moments),
    Row("redis_slow", proxied(delay_s=0.05, for_s=6), 6, "behind a proxy"),
    Row("redis_half_open_8s", half_open(8, then_cut=False), 8, "behind a proxy"),
    Row("redis_half_open_15s_then_cut", half_open(15, then_cut=True), 15, "behind a proxy"),
    Row("cut_before_the_53rd_command", proxied(cut_before=53, for_s=6), 6, "behind a proxy", also=hints.more),
    Row("cut_after_the_47th_command", proxied(cut_after=47, for_s=6), 6, "behind a proxy", also=hints.more),
    Row("cut_after_each_11th_command", proxied(cut_after=11, for_s=4), 4, "behind a proxy", also=hints.more),
    Row("redis_failed_over", store_faults.failed_over, 6, "with a replica of Redis", spoils=True),
    Row("redis_disk_full", store_faults.disk_full(8), 8, "small disk", skip=store_faults.may_not_mount),
)
CLOCK_ROWS = tuple(
    Row(
        f"clock_of_{name}_{word}_2h",
        clocks.jumps(by),
        3,
        f"own clock of {name}",
        skip=clocks.missing,
        spoils=True,
    )
    # Those that start with libfaketime: gevent does not.
    for name in ("redis", "keeper", "rpc", "provider")
    for word, by in (("forward", "+2h"), ("back", "-2h"))
)
OTHER_ROWS = (
    Row("hints_lost", hints.lost, 3, also=hints.more),
    Row("hints_doubled", hints.doubled, 3, also=hints.more),
    Row("hints_late", hints.late, 3, also=hints.more),
    Row("hints_garbage", hints.garbage, 3, also=hints.more),
    *(Row(f"engine_{kind}", engines.poison(kind), 6) for kind in ("crash", "raise", "garbage", "refuse")),
    Row("engine_hang", engines.poison("hang"), 20),
    Row("engine_out_of_memory", engines.out_of_memory, 6, skip=engines.no_limits),
    *(
        Row(f"no_descriptors_{name}", limits.no_descriptors(name, for_s=4), 4)
        for name in ("web", "rpc", "worker", "keeper", "agent", "provider")
    ),
    Row("clients_leave", visitors.leave, 3),
    Row("clients_read_slowly", engines.rest(3), 3, also=visitors.slow),
    Row("clients_come_again_100_times", engines.rest(6), 6, also=visitors.restless),
    Row("cursors_forged", visitors.forge, 4),
    Row("another_worker_comes_and_goes", limits.another_worker, 8),
    # What is deployed anew has other options than this system's engines.
    Row("rolling_update", limits.rolling_update(), 6, spoils=True),
    Row("rolling_update_agent_killed", limits.rolling_update(kill="agent"), 8, spoils=True),
    Row("overload", visitors.overload, 15, "short queue"),
    Row(
        "long_prompts",
        engines.nothing,
        7,
        "long prompts",
        also=engines.many_streams(32, 60),
        then=engines.none_restarted,
    ),
    # Four at a time: a new request waits behind all others.
    Row("small_batch", engines.nothing, 1, "small batch", late_s=60),
    Row("redis_empty", store_faults.empty, 4, forgets=True, spoils=True),
)
ROWS = (*PROCESS_ROWS, *PAIR_ROWS, *STORE_ROWS, *CLOCK_ROWS, *OTHER_ROWS)
