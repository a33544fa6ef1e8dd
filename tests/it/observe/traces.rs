//! The `tracing` facade: what is emitted, and that no value, password or whole long key is.

use crate::support::alone::alone;
use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, EventKind};
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

/// Writes down everything, of whatever target and level, a line each.
#[derive(Clone, Default)]
struct Notebook {
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<AtomicU64>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Notebook {
    fn note(&self, what: &str, metadata: Option<&Metadata<'_>>, record: impl FnOnce(&mut Fields)) {
        let about = metadata
            .map(|about| format!(" {} {} {}", about.level(), about.target(), about.name()))
            .unwrap_or_default();
        let mut fields = Fields(format!("{what}{about}"));
        record(&mut fields);
        self.lines.lock().unwrap().push(fields.0);
    }

    fn read(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines.lock().unwrap())
    }

    /// The lines of larder, without those of others.
    fn own(&self) -> Vec<String> {
        self.read().into_iter().filter(|line| line.contains(" larder ")).collect()
    }
}

impl Subscriber for Notebook {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.spans.fetch_add(1, Ordering::Relaxed) + 1;
        self.note(&format!("span {id}"), Some(span.metadata()), |fields| span.record(fields));
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.note(&format!("record {}", span.into_u64()), None, |fields| values.record(fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.note("event", Some(event.metadata()), |fields| event.record(fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Whether a span is wanted is cached for the whole process, and threads of other tests, which want
/// none, would affect it.
fn in_a_process(name: &str, test: impl Future<Output = larder::Result<()>>) {
    alone(name, || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test)
            .unwrap()
    });
}

fn notebook() -> (Notebook, tracing::subscriber::DefaultGuard) {
    let notebook = Notebook::default();
    let guard = tracing::subscriber::set_default(notebook.clone());
    (notebook, guard)
}

#[test]
fn events_and_spans_have_their_fields() {
    in_a_process(
        "observe::traces::events_and_spans_have_their_fields",
        events_and_spans_have_their_fields_there(),
    );
}

async fn events_and_spans_have_their_fields_there() -> larder::Result<()> {
    let (notebook, _guard) = notebook();
    let cache = AsyncCacheWrapper::new(AsyncMemoryCache::new())?;
    cache.set("k", "the value").await?;
    assert!(
        !notebook.own().iter().any(|line| line.starts_with("event")),
        "without the observer there are no events"
    );

    cache.observe(larder::observe::tracing());
    cache.get::<String>("k").await?;
    let lines = notebook.own();
    assert_eq!(lines.len(), 1, "a hit in memory has no span: {lines:?}");
    for part in
        ["event DEBUG larder ", " event=\"hit\"", " backend=\"memory\"", " op=\"get\"", " took_us="]
    {
        assert!(lines[0].contains(part), "{lines:?}");
    }
    cache.try_get_or_set_async("f", async { Err::<u8, _>("the value") }).await.unwrap_err();
    let lines = notebook.read();
    let count = |parts: &[&str]| {
        lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    };
    assert_eq!(count(&["span", "DEBUG larder load", "backend=\"memory\""]), 1, "{lines:?}");
    assert_eq!(count(&["record", "outcome=the loader failed"]), 1, "{lines:?}");
    assert_eq!(count(&["span", "DEBUG larder call", "op=\"get_or_set\""]), 1, "{lines:?}");
    assert_eq!(
        count(&["event WARN larder", "event=\"load_error\"", "error=the loader failed"]),
        1,
        "{lines:?}"
    );
    assert_eq!(count(&["key="]) + count(&["the value"]), 0, "{lines:?}");

    cache.trace_keys(true);
    cache.namespace("n").set("k", 1u8).await?;
    let lines = notebook.read();
    assert!(
        lines.iter().any(|line| line.starts_with("record") && line.contains("key=\"n:k\"")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("event") && line.contains("key=\"n:k\"")),
        "{lines:?}"
    );
    Ok(())
}

/// No secret and no whole key is in a trace.
#[cfg(feature = "redis")]
#[test]
fn nothing_secret_is_traced() {
    in_a_process("observe::traces::nothing_secret_is_traced", nothing_secret_is_traced_there());
}

#[cfg(feature = "redis")]
async fn nothing_secret_is_traced_there() -> larder::Result<()> {
    const PASSWORD: &str = "hunter2-p@ss";
    const ENCODED: &str = "hunter2-p%40ss";
    const VALUE: &str = "a-value-that-nobody-may-read";
    let server = crate::support::Redis::start_with(&["--requirepass", PASSWORD]);
    let (notebook, _guard) = notebook();
    let long = "k".repeat(5_000);
    for keys in [false, true] {
        let cache =
            AsyncCacheWrapper::new(format!("redis://:{ENCODED}@{}?op_timeout=60s", server.addr()))?;
        cache.observe(larder::observe::tracing());
        cache.trace_keys(keys);
        cache.set(&long, VALUE).await?;
        assert_eq!(cache.get::<String>(&long).await?.as_deref(), Some(VALUE));
        cache.get::<u8>(&long).await.unwrap_err();
        assert_eq!(cache.incr(&long, 1).await.unwrap_err().kind(), ErrorKind::NotANumber);
        cache.set_many([("a", VALUE), ("b", VALUE)]).await?;
        cache.get_many::<String, _>(["a", "b"]).await?;
        cache.get_or_set_async("loaded", async { VALUE.to_owned() }).await?;
        cache.try_get_or_set_async("fails", async { Err::<String, _>(VALUE) }).await.unwrap_err();
        cache.get_or_set_with("panics", |_| -> String { panic!("{VALUE}") }).await.unwrap_err();
        cache.clear().await?;
        cache.close().await?;
        let wrong = AsyncCacheWrapper::new(format!("redis://:hunter2-wrong@{}", server.addr()))?;
        wrong.observe(larder::observe::tracing());
        wrong.trace_keys(keys);
        wrong.set(&long, VALUE).await.unwrap_err();

        let lines = notebook.read();
        assert!(lines.iter().filter(|line| line.contains(" larder ")).count() > 20, "{lines:?}");
        for line in &lines {
            assert!(!line.contains("hunter2") && !line.contains(VALUE), "{line}");
            assert!(!line.contains(&long[..129]), "a key is cut: {line}");
        }
        assert_eq!(
            lines.iter().any(|line| line.contains(&long[..128])),
            keys,
            "keys only when asked"
        );
    }
    Ok(())
}

/// What observers are given does not show values and whole keys either, when printed.
#[tokio::test]
async fn an_event_printed_is_cut() -> larder::Result<()> {
    let cache = AsyncCacheWrapper::new(AsyncMemoryCache::new())?;
    let printed = Arc::new(Mutex::new(String::new()));
    let written = printed.clone();
    cache.observe(move |event| {
        if event.kind == EventKind::Set {
            assert_eq!(event.key.map(str::len), Some(500), "the observer itself has the whole key");
            write!(written.lock().unwrap(), "{event:?}").unwrap();
        }
    });
    cache.set("k".repeat(500), "the value").await?;
    let printed = printed.lock().unwrap();
    assert!(printed.contains(&"k".repeat(128)) && !printed.contains(&"k".repeat(129)), "{printed}");
    assert!(!printed.contains("the value"), "{printed}");
    Ok(())
}
