//! A service with metrics for Prometheus: `cargo run --example metrics --features metrics`.
//!
//! The service sends itself a few hundred requests, prints the interesting part of its own
//! `/metrics`, and ends. `docs/grafana.json` is a dashboard for these metrics.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use larder::{AsyncCacheWrapper, AsyncMemoryCache};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Clone)]
struct Service {
    cache: AsyncCacheWrapper,
    recorder: PrometheusHandle,
}

/// What the buckets of `larder_load_seconds` and `larder_call_seconds` end at.
const BUCKETS: [f64; 8] = [0.000_01, 0.000_1, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5];

#[tokio::main]
async fn main() -> Result<()> {
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    let cache = AsyncCacheWrapper::new(AsyncMemoryCache::builder().max_entries(50).build())?;
    // The one line.
    cache.observe(larder::observe::metrics("squares"));

    let service = Service { cache: cache.clone(), recorder };
    let routes = Router::new()
        .route("/squares/{number}", get(square))
        .route("/metrics", get(metrics))
        .with_state(service);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, routes).into_future());

    // The second round finds the first one's squares; 13 cannot be computed at all.
    for number in (0..20).chain(0..20) {
        let status = ask(address, &format!("/squares/{number}")).await?.0;
        assert_eq!(status, if number == 13 { 502 } else { 200 }, "{number}");
    }
    // Many at once for one that is not there: one of them computes it.
    let askers: Vec<_> =
        (0..10).map(|_| tokio::spawn(async move { ask(address, "/squares/1000").await })).collect();
    for asker in askers {
        assert_eq!(asker.await??, (200, "1000000".to_owned()));
    }

    let (status, text) = ask(address, "/metrics").await?;
    assert_eq!(status, 200);
    for line in text.lines().filter(|line| {
        line.starts_with("larder_") && (!line.contains("_bucket") || line.contains("+Inf"))
    }) {
        println!("{line}");
    }
    println!("\ncache.stats() says:\n{}", cache.stats());

    let count = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    let stats = cache.stats();
    assert_eq!((count("larder_loads_total"), count("larder_load_errors_total")), (20, 2));
    assert_eq!(
        count("larder_hits_total") + count("larder_misses_total"),
        50,
        "one hit or one miss a request"
    );
    assert_eq!(
        (count("larder_hits_total"), count("larder_misses_total")),
        (stats.hits, stats.misses)
    );
    assert_eq!(count("larder_load_seconds_count"), 22);
    assert!(!text.contains("number/"), "a key is never a label");
    Ok(())
}

async fn square(
    State(service): State<Service>,
    Path(number): Path<u64>,
) -> Result<Json<u64>, (StatusCode, String)> {
    let square =
        service.cache.try_get_or_set_async(format!("number/{number}"), compute(number)).await;
    square.map(Json).map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))
}

/// A source that is slow, and that fails at times.
async fn compute(number: u64) -> Result<u64> {
    tokio::time::sleep(Duration::from_millis(if number == 1000 { 50 } else { 2 })).await;
    if number == 13 { Err("bad luck".into()) } else { Ok(number * number) }
}

async fn metrics(State(service): State<Service>) -> String {
    service.cache.record_size("squares");
    service.recorder.render()
}

/// One request; its status and body.
async fn ask(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or("an answer without an end to its head")?;
    let status = head.split(' ').nth(1).ok_or("an answer without a status")?;
    Ok((status.parse()?, body.to_owned()))
}
