//! redis, beside its own driver: plain and through TLS, with small values, batches, and large
//! values beside small ones.

mod batches;
mod large;
mod plain;
mod tls;

use super::server::Server;
use super::{Done, PATIENCE, ROUNDS, RUNTIME, TTL, for_each_key, key, micros, round, value};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use larder::{adapter_set, async_adapter_set, async_cached, cached};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, Commands, ConnectionInfo, IntoConnectionInfo, RedisResult, cmd};
use std::hint::black_box;

const RAW: &str = "redis::aio::MultiplexedConnection";
/// Sends at once, as larder does; by default the driver leaves Nagle's algorithm on.
const RAW_NODELAY: &str = "the same with TCP_NODELAY";
const NOTE: &str = "larder is named by URL and called through the global, typed cache: a value has its header, checks and decoding.";

pub(super) fn run(run: &mut Run) {
    plain::run(run);
    tls::run(run);
    large::run(run);
}

/// larder and the driver before a server on which both find all keys.
struct Filled {
    /// It runs for as long as it is needed.
    _server: Server,
    /// larder's.
    url: String,
    client: Client,
    raw: MultiplexedConnection,
    nodelay: MultiplexedConnection,
}

impl Filled {
    /// Over plain TCP. `None` where redis is not installed.
    fn plain() -> Option<Self> {
        let server = Server::redis()?;
        let url = format!("redis://127.0.0.1:{}", server.port);
        let info = url.as_str().into_connection_info().expect("an address");
        Some(Self::new(server, format!("{url}?{PATIENCE}"), info, Client::open))
    }

    /// Makes `url` the global cache's, and writes each key as larder and as the driver does.
    /// `connect` makes a client of the driver.
    fn new(
        server: Server,
        url: String,
        info: ConnectionInfo,
        connect: impl Fn(ConnectionInfo) -> RedisResult<Client>,
    ) -> Self {
        async_adapter_set(&*url).expect("a URL");
        let at_once = info.clone().set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = connect(info).expect("an address");
        let multiplexed = |client: &Client| {
            RUNTIME.block_on(client.get_multiplexed_async_connection()).expect("a connection")
        };
        let nodelay = multiplexed(&connect(at_once).expect("an address"));
        let raw = multiplexed(&client);
        for_each_key(|number| async move {
            async_cached().ttl(TTL * 60).set(key(number), value()).await.expect("set")
        });
        let filler = raw.clone();
        for_each_key(move |number| {
            let mut raw = filler.clone();
            async move {
                cmd("SET").arg(key(number)).arg(value()).exec_async(&mut raw).await.expect("set")
            }
        });
        Self { _server: server, url, client, raw, nodelay }
    }
}

/// What the tasks of a round do.
#[derive(Clone, Copy)]
struct Work {
    tasks: usize,
    writes: bool,
}

const fn reads(tasks: usize) -> Work {
    Work { tasks, writes: false }
}

const fn writes(tasks: usize) -> Work {
    Work { tasks, writes: true }
}

/// A line's name and title, what its tasks do, and how many times as fast as the driver larder is to
/// be.
type WorkLine = (&'static str, &'static str, Work, f64);

fn work_lines(run: &mut Run, filled: &Filled, lines: &[WorkLine]) {
    for (id, title, work, goal) in lines {
        let line = Line::new(*id, *title, Unit::PerSecond)
            .goal(Goal::at_least_times(*goal, RAW))
            .rounds(ROUNDS)
            .note(NOTE);
        run.line(line, || by_tasks(filled, *work, Done::per_second));
    }
}

fn blocking_line(run: &mut Run, filled: &Filled, id: &str, title: &str) {
    let line = Line::new(id, title, Unit::Micros)
        .goal(Goal::at_most_times(1.1, "redis::Connection"))
        .rounds(ROUNDS);
    run.line(line, || blocking(filled));
}

/// larder and both connections of the driver at the same work; `figure` is what of a round counts.
fn by_tasks(filled: &Filled, work: Work, figure: fn(&Done) -> f64) -> Vec<Contestant<'static>> {
    let driver = |name, raw: &MultiplexedConnection| {
        let raw = raw.clone();
        Contestant::round(name, move || figure(&through_the_driver(&raw, work)))
    };
    vec![
        Contestant::round("larder, async_cached()", move || figure(&through_larder(work))),
        driver(RAW, &filled.raw),
        driver(RAW_NODELAY, &filled.nodelay),
    ]
}

fn through_larder(Work { tasks, writes }: Work) -> Done {
    if writes {
        return round(tasks, |number| async move {
            async_cached().ttl(TTL).set(key(number), value()).await.expect("set")
        });
    }
    round(tasks, |number| async move {
        let found: Option<String> = async_cached().get(key(number)).await.expect("get");
        black_box(found.expect("it is there"));
    })
}

fn through_the_driver(raw: &MultiplexedConnection, Work { tasks, writes }: Work) -> Done {
    let raw = raw.clone();
    round(tasks, move |number| {
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

/// Both on the one thread of their caller.
fn blocking(filled: &Filled) -> Vec<Contestant<'static>> {
    adapter_set(&*filled.url).expect("a URL");
    let mut raw = filled.client.get_connection().expect("a connection");
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
