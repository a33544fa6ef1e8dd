//! memcached, beside its driver with sixteen connections.

use super::server::Server;
use super::{
    MANY_TASKS, PATIENCE, ROUNDS, RUNTIME, TASKS, TTL, batch, batch_curves, batch_ids,
    for_each_key, key, rate, value,
};
use crate::figure::Unit;
use crate::goal::Goal;
use crate::line::{Contestant, Line};
use crate::run::Run;
use async_memcached::{AsciiProtocol, Client, MetaProtocol};
use larder::{async_adapter_set, async_cached};
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

const POOL: usize = 16;
const RAW: &str = "async-memcached, 16 connections";
const LINES: [(&str, &str, usize, bool, f64); 5] = [
    ("memcached/get-4", "memcached GET 100 B, 4 tasks", 4, false, 1.2),
    ("memcached/get-16", "memcached GET 100 B, 16 tasks", 16, false, 1.6),
    ("memcached/get-256", "memcached GET 100 B, 256 tasks", 256, false, 2.5),
    ("memcached/set-16", "memcached SET 100 B, 16 tasks", 16, true, 1.6),
    ("memcached/set-256", "memcached SET 100 B, 256 tasks", 256, true, 2.5),
];

pub(super) fn run(run: &mut Run) {
    if !batch_ids("memcached")
        .iter()
        .map(String::as_str)
        .chain(["memcached/get-tasks"])
        .chain(LINES.iter().map(|line| line.0))
        .any(|id| run.wants(id))
    {
        return;
    }
    let arguments =
        |port: u16| ["-p", &port.to_string(), "-U", "0", "-u", "root"].map(str::to_owned).to_vec();
    let Some(server) = Server::start("memcached", arguments) else { return };
    async_adapter_set(&*format!("memcached://127.0.0.1:{}?{PATIENCE}", server.port))
        .expect("a URL");
    let raw = Arc::new(Pool::open(server.port));
    for_each_key(|number| async move {
        async_cached().ttl(TTL * 60).set(key(number), value()).await.expect("set")
    });
    let filled = raw.clone();
    for_each_key(move |number| {
        let raw = filled.clone();
        async move { raw.set(number).await }
    });
    for (id, title, tasks, writes, goal) in LINES {
        let goal = Goal::at_least_times(goal, RAW);
        run.line(Line::new(id, title, Unit::PerSecond).goal(goal).rounds(ROUNDS), || {
            by_tasks(&raw, tasks, writes)
        });
    }
    let line =
        Line::new("memcached/get-tasks", "memcached GET 100 B, as tasks grow", Unit::PerSecond)
            .note(MANY_TASKS);
    run.curve(line, "tasks", &TASKS, |tasks| by_tasks(&raw, tasks as usize, false));
    batch_curves(
        run,
        "memcached",
        [&|keys| multi_get(&raw, keys), &|entries| multi_set(&raw, entries)],
    );
}

/// The plainest pool that there can be.
struct Pool {
    places: Semaphore,
    idle: Mutex<Vec<Client>>,
}

impl Pool {
    fn open(port: u16) -> Self {
        let open = || {
            RUNTIME.block_on(Client::new(format!("tcp://127.0.0.1:{port}"))).expect("a connection")
        };
        Self { places: Semaphore::new(POOL), idle: Mutex::new((0..POOL).map(|_| open()).collect()) }
    }

    fn take(&self) -> Client {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .expect("as many as there are places")
    }

    fn put_back(&self, client: Client) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
    }

    async fn get(&self, number: usize) {
        let _place = self.places.acquire().await.expect("never closed");
        let mut client = self.take();
        let found = client.get(format!("raw/{}", key(number)).as_str()).await.expect("get");
        black_box(found.expect("it is there").data);
        self.put_back(client);
    }

    async fn set(&self, number: usize) {
        let _place = self.places.acquire().await.expect("never closed");
        let mut client = self.take();
        let seconds = (TTL * 60).as_secs() as i64;
        client
            .set(format!("raw/{}", key(number)).as_str(), value().as_str(), Some(seconds), None)
            .await
            .expect("set");
        self.put_back(client);
    }
}

fn by_tasks(raw: &Arc<Pool>, tasks: usize, writes: bool) -> Vec<Contestant<'static>> {
    let raw = raw.clone();
    let ours = move || {
        if writes {
            return rate(tasks, |number| async move {
                async_cached().ttl(TTL * 60).set(key(number), value()).await.expect("set")
            });
        }
        rate(tasks, |number| async move {
            let found: Option<String> = async_cached().get(key(number)).await.expect("get");
            black_box(found.expect("it is there"));
        })
    };
    let theirs = move || {
        let raw = raw.clone();
        rate(tasks, move |number| {
            let raw = raw.clone();
            async move { if writes { raw.set(number).await } else { raw.get(number).await } }
        })
    };
    vec![Contestant::round("larder, async_cached()", ours), Contestant::round(RAW, theirs)]
}

fn multi_get(raw: &Arc<Pool>, count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(|number| format!("raw/{}", key(number))).collect();
    let raw = raw.clone();
    batch("async-memcached, meta_get_multi", count, async move || {
        let mut client = raw.take();
        let found =
            client.meta_get_multi(&keys, Some(&["v", "k"])).await.expect("meta_get_multi").len();
        raw.put_back(client);
        found
    })
}

fn multi_set(raw: &Arc<Pool>, count: usize) -> Contestant<'static> {
    let keys: Vec<String> = (0..count).map(|number| format!("raw/{}", key(number))).collect();
    let raw = raw.clone();
    batch("async-memcached, set_multi", count, async move || {
        let mut client = raw.take();
        let seconds = (TTL * 60).as_secs() as i64;
        let values: Vec<String> = keys.iter().map(|_| value()).collect();
        let entries: Vec<(&String, &String)> = keys.iter().zip(&values).collect();
        let stored = client.set_multi(&entries, Some(seconds), None).await.expect("set_multi");
        let stored = stored.values().filter(|stored| stored.is_ok()).count();
        raw.put_back(client);
        stored
    })
}
