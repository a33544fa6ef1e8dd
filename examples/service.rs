//! A small web service that caches: `cargo run --example service --features full`.
//!
//! Its handlers use `async_cached()` and know nothing of adapters. `LARDER_URL` chooses the adapter
//! (`LARDER_URL=redis://127.0.0.1`). Without it the cache is an SQLite file, so that it is still
//! warm after a restart.
//!
//! With `--self-test`, and in CI, the service sends itself a few requests and ends.

use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use larder::{ErrorKind, async_adapter_get, async_adapter_set, async_cached};
use serde::{Deserialize, Serialize};
use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;
type Answer<T> = std::result::Result<Json<T>, (StatusCode, String)>;

/// What the service serves, and what takes long to find.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Country {
    code: String,
    name: String,
}

fn routes() -> Router {
    Router::new()
        .route("/countries/{code}", get(country).delete(forget))
        .route("/search", get(search))
        .route("/visits", get(visits))
        .route("/health", get(health))
}

/// However many ask at once for a country that is not cached, it is looked up once.
async fn country(Path(code): Path<String>) -> Answer<Country> {
    let found = async_cached()
        .namespace("country")
        .get_or_set_async(code.clone(), look_up(code))
        .await
        .map_err(failed)?;
    found.map(Json).ok_or((StatusCode::NOT_FOUND, "there is no such country\n".to_owned()))
}

async fn forget(Path(code): Path<String>) -> Answer<bool> {
    async_cached().namespace("country").remove(code).await.map(Json).map_err(failed)
}

#[derive(Deserialize)]
struct Search {
    name: String,
}

/// An entry that lives ten seconds, and a loader that may fail.
async fn search(Query(Search { name }): Query<Search>) -> Answer<Vec<Country>> {
    let brief = async_cached().namespace("search");
    let brief = brief.ttl(Duration::from_secs(10));
    brief.try_get_or_set_async(name.clone(), find(name)).await.map(Json).map_err(failed)
}

async fn visits() -> Answer<i64> {
    async_cached().incr("visits", 1).await.map(Json).map_err(failed)
}

async fn health() -> Answer<String> {
    let adapter = async_adapter_get().map_err(failed)?;
    adapter.ping().await.map_err(failed)?;
    Ok(Json(adapter.backend().to_owned()))
}

/// `get_or_set*` answer without the cache when it is down. What reaches this is the other verbs,
/// and loaders that failed.
fn failed(error: larder::Error) -> (StatusCode, String) {
    let status = match error.kind() {
        ErrorKind::InvalidKey => StatusCode::BAD_REQUEST,
        ErrorKind::Load => StatusCode::BAD_GATEWAY,
        ErrorKind::Unavailable | ErrorKind::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    (status, format!("{error}{cause}\n"))
}

// ---- a slow source

const COUNTRIES: [(&str, &str); 4] =
    [("at", "Austria"), ("ch", "Switzerland"), ("nl", "Netherlands"), ("no", "Norway")];

/// `None` is cached as well: a country that is not there costs one look, too.
async fn look_up(code: String) -> Option<Country> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    COUNTRIES.iter().find(|(known, _)| *known == code).map(country_of)
}

async fn find(name: String) -> Result<Vec<Country>> {
    if name.len() < 2 {
        return Err("the index wants two letters".into());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(COUNTRIES.iter().filter(|(_, known)| known.contains(&name)).map(country_of).collect())
}

fn country_of((code, name): &(&str, &str)) -> Country {
    Country { code: (*code).to_owned(), name: (*name).to_owned() }
}

// ---- the program

#[tokio::main]
async fn main() -> Result<()> {
    let set = |variable| env::var_os(variable).is_some_and(|value| !value.is_empty());
    let self_test = env::args().any(|argument| argument == "--self-test")
        || set("CI")
        || set("LARDER_EXAMPLE_ONCE");
    // A self-test leaves nothing behind.
    let default = if self_test { "sqlite::memory:" } else { "sqlite" };
    if !set("LARDER_URL")
        && let Err(error) = async_adapter_set(default)
    {
        println!("{error}. The cache is in memory.");
    }
    println!("The cache is in: {}", async_adapter_get()?.backend());

    let listener =
        TcpListener::bind(if self_test { "127.0.0.1:0" } else { "127.0.0.1:3000" }).await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener, routes()).with_graceful_shutdown(async {
        tokio::select! {
            Ok(()) = stopped => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    });
    let server = tokio::spawn(server.into_future());
    if self_test {
        ask_ourselves(address).await?;
        let _ = stop.send(());
    } else {
        println!("Listening on http://{address}, until Ctrl-C. Try:");
        for path in ["countries/no", "countries/no", "'search?name=land'", "visits", "health"] {
            println!("   curl http://{address}/{path}");
        }
        println!("   curl -X DELETE http://{address}/countries/no");
    }
    server.await??;
    Ok(async_cached().close().await?)
}

async fn ask_ourselves(address: SocketAddr) -> Result<()> {
    let (cold, took_cold) = ask(address, "GET", "/countries/no").await?;
    let (warm, took_warm) = ask(address, "GET", "/countries/no").await?;
    assert_eq!(cold, warm);
    assert!(cold.starts_with("200") && cold.contains("Norway"), "{cold}");
    println!(
        "   The first request took {took_cold:.0?} (a miss), the second {took_warm:.1?} (a hit)."
    );

    let (nowhere, _) = ask(address, "GET", "/countries/xx").await?;
    assert!(nowhere.starts_with("404"), "{nowhere}");
    let (found, _) = ask(address, "GET", "/search?name=land").await?;
    assert!(found.contains("Switzerland") && found.contains("Netherlands"), "{found}");
    let (refused, _) = ask(address, "GET", "/search?name=").await?;
    assert!(refused.starts_with("400"), "{refused}");
    let (refused, _) = ask(address, "GET", "/search?name=l").await?;
    assert!(refused.starts_with("502"), "{refused}");
    let (first, _) = ask(address, "GET", "/visits").await?;
    let (second, _) = ask(address, "GET", "/visits").await?;
    assert!(first != second, "{second}");
    let (forgotten, _) = ask(address, "DELETE", "/countries/no").await?;
    assert!(forgotten.ends_with("true"), "{forgotten}");
    let (health, _) = ask(address, "GET", "/health").await?;
    assert!(health.starts_with("200"), "{health}");
    Ok(())
}

/// One request; its status and body, and how long it took.
async fn ask(address: SocketAddr, method: &str, path: &str) -> Result<(String, Duration)> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let took = begun.elapsed();
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or("an answer without an end to its head")?;
    let status = head.split(' ').nth(1).ok_or("an answer without a status")?;
    let answer = format!("{status} {}", body.trim_end());
    println!("{method:>7} {path:<20} {answer}");
    Ok((answer, took))
}
