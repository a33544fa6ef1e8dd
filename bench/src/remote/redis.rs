//! redis, beside its own multiplexed connection.

use super::server::Server;
use super::{
    BATCH, BATCHES, MANY_TASKS, PATIENCE, ROUNDS, RUNTIME, TASKS, TTL, batch, for_each_key,
    get_many, key, micros, rate, value,
};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use larder::{adapter_set, async_adapter_set, async_cached, cached};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, Commands, IntoConnectionInfo, cmd};
use std::hint::black_box;

/// No more entries than there are keys: later lines read each of them.
const SET_BATCHES: [f64; 4] = [1.0, 10.0, 100.0, 1_000.0];
const RAW: &str = "redis::aio::MultiplexedConnection";
/// Sends at once, as larder does; by default the driver leaves Nagle's algorithm on.
const RAW_NODELAY: &str = "the same with TCP_NODELAY";
const LINES: [(&str, &str, usize, bool, f64); 9] = [
    ("redis/get-1", "redis GET 100 B, 1 task", 1, false, 1.0),
    ("redis/get-4", "redis GET 100 B, 4 tasks", 4, false, 1.0),
    ("redis/get-16", "redis GET 100 B, 16 tasks", 16, false, 1.3),
    ("redis/get-64", "redis GET 100 B, 64 tasks", 64, false, 1.7),
    ("redis/get-256", "redis GET 100 B, 256 tasks", 256, false, 2.0),
    ("redis/get-1024", "redis GET 100 B, 1,024 tasks", 1_024, false, 2.2),
    ("redis/set-1", "redis SET with expiry 100 B, 1 task", 1, true, 1.0),
    ("redis/set-16", "redis SET with expiry 100 B, 16 tasks", 16, true, 1.3),
    ("redis/set-256", "redis SET with expiry 100 B, 256 tasks", 256, true, 1.8),
];
const NOTE: &str = "larder is named by URL and called through the global, typed cache: a value has its header, checks and decoding.";

pub(super) fn run(run: &mut Run) {
    if !["redis/get-tasks", "redis/batch", "redis/set-batch", "redis/blocking"]
        .iter()
        .chain(LINES.iter().map(|line| &line.0))
        .any(|id| run.wants(id))
    {
        return;
    }
    let arguments = |port: u16| {
        ["--port", &port.to_string(), "--save", "", "--appendonly", "no"]
            .map(str::to_owned)
            .to_vec()
    };
    let Some(server) = Server::start("redis-server", arguments) else { return };
    let (url, client) = (format!("redis://127.0.0.1:{}?{PATIENCE}", server.port), client(&server));
    async_adapter_set(&*url).expect("a URL");
    let raw = RUNTIME.block_on(client.get_multiplexed_async_connection()).expect("a connection");
    let info = client
        .get_connection_info()
        .clone()
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let nodelay =
        RUNTIME.block_on(open(info).get_multiplexed_async_connection()).expect("a connection");
    let raws = [(RAW, raw.clone()), (RAW_NODELAY, nodelay)];
    fill(&raw);
    for (id, title, tasks, writes, goal) in LINES {
        let goal = Goal::at_least_times(goal, RAW);
        run.line(
            Line::new(id, title, Unit::PerSecond).goal(goal).rounds(ROUNDS).note(NOTE),
            || by_tasks(&raws, tasks, writes),
        );
    }
    run.line(
        Line::new("redis/blocking", "redis GET 100 B, blocking, one thread", Unit::Micros)
            .goal(Goal::at_most_times(1.1, "redis::Connection"))
            .rounds(ROUNDS),
        || blocking(&url, &client),
    );
    let line = Line::new("redis/get-tasks", "redis GET 100 B, as tasks grow", Unit::PerSecond)
        .note(MANY_TASKS);
    run.curve(line, "tasks", &TASKS, |tasks| by_tasks(&raws, tasks as usize, false));
    let line = Line::new(
        "redis/batch",
        "redis, keys a second in one get_many, as it grows",
        Unit::PerSecond,
    )
    .note(BATCH);
    run.curve(line, "keys", &BATCHES, |keys| {
        vec![get_many(keys as usize), mget(&raw, keys as usize)]
    });
    let line = Line::new(
        "redis/set-batch",
        "redis, entries a second in one set_many, as it grows",
        Unit::PerSecond,
    );
    run.curve(line, "entries", &SET_BATCHES, |entries| {
        vec![set_many(entries as usize), pipelined_sets(&raw, entries as usize)]
    });
}

fn client(server: &Server) -> Client {
    open(format!("redis://127.0.0.1:{}", server.port))
}

fn open(server: impl IntoConnectionInfo) -> Client {
    Client::open(server).expect("an address")
}

fn fill(raw: &MultiplexedConnection) {
    for_each_key(|number| async move {
        async_cached().ttl(TTL * 60).set(key(number), value()).await.expect("set")
    });
    let raw = raw.clone();
    for_each_key(move |number| {
        let mut raw = raw.clone();
        async move { cmd("SET").arg(key(number)).arg(value()).exec_async(&mut raw).await.expect("set") }
    });
}

fn by_tasks(
    raws: &[(&'static str, MultiplexedConnection)],
    tasks: usize,
    writes: bool,
) -> Vec<Contestant<'static>> {
    let ours = move || {
        if writes {
            return rate(tasks, |number| async move {
                async_cached().ttl(TTL).set(key(number), value()).await.expect("set")
            });
        }
        rate(tasks, |number| async move {
            let found: Option<String> = async_cached().get(key(number)).await.expect("get");
            black_box(found.expect("it is there"));
        })
    };
    let theirs = raws
        .iter()
        .cloned()
        .map(|(name, raw)| Contestant::round(name, move || over(&raw, tasks, writes)));
    std::iter::once(Contestant::round("larder, async_cached()", ours)).chain(theirs).collect()
}

fn over(raw: &MultiplexedConnection, tasks: usize, writes: bool) -> f64 {
    let raw = raw.clone();
    rate(tasks, move |number| {
        let mut raw = raw.clone();
        async move {
            if writes {
                let millis = TTL.as_millis() as u64;
                cmd("SET")
                    .arg(key(number))
                    .arg(value())
                    .arg("PX")
                    .arg(millis)
                    .exec_async(&mut raw)
                    .await
                    .expect("set");
            } else {
                let found: Option<String> =
                    cmd("GET").arg(key(number)).query_async(&mut raw).await.expect("get");
                black_box(found.expect("it is there"));
            }
        }
    })
}

fn blocking(url: &str, client: &Client) -> Vec<Contestant<'static>> {
    adapter_set(url).expect("a URL");
    let mut raw = client.get_connection().expect("a connection");
    let ours = || {
        micros(|| {
            drop(black_box(cached().get::<String>(key(7)).expect("get").expect("it is there")))
        })
    };
    let theirs = move || micros(|| drop(black_box(raw.get::<_, String>(key(7)).expect("get"))));
    vec![
        Contestant::round("larder, cached()", ours),
        Contestant::round("redis::Connection", theirs),
    ]
}

fn mget(raw: &MultiplexedConnection, count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(key).collect();
    let mut raw = raw.clone();
    batch("MGET over the raw connection", count, async move || {
        let found: Vec<Option<String>> =
            cmd("MGET").arg(&keys).query_async(&mut raw).await.expect("MGET");
        found.iter().flatten().count()
    })
}

fn set_many(count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(key).collect();
    batch("larder, set_many", count, async move || {
        let entries = keys.iter().map(|key| (key, value()));
        async_cached().ttl(TTL * 60).set_many(entries).await.expect("set_many");
        count
    })
}

/// One `SET` for each entry, all in one round trip: `MSET` takes no expiry.
fn pipelined_sets(raw: &MultiplexedConnection, count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(key).collect();
    let mut raw = raw.clone();
    batch("SETs in a pipeline over the raw connection", count, async move || {
        let mut sets = redis::pipe();
        for key in &keys {
            let millis = (TTL * 60).as_millis() as u64;
            sets.cmd("SET").arg(key).arg(value()).arg("PX").arg(millis).ignore();
        }
        sets.exec_async(&mut raw).await.expect("a pipeline");
        count
    })
}
