//! The `metrics` facade, and the documents about it.

use larder::testing::{Fault, FaultyAdapter, Verb};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, ErrorKind, Stats};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::collections::BTreeSet;
use std::sync::Arc;

const DOCUMENT: &str = include_str!("../../../docs/observability.md");
const SOURCE: &str = include_str!("../../../src/observe/metrics.rs");
const DASHBOARD: &str = include_str!("../../../docs/grafana.json");

async fn one_of_each() -> larder::Result<Stats> {
    let adapter = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
    let cache = AsyncCacheWrapper::new(adapter.clone() as Arc<dyn AsyncCacheAdapter>)?;
    cache.observe(larder::observe::metrics("own"));
    cache.set("secret-key", "secret-value").await?;
    cache.get_many::<String, _>(["secret-key", "nope"]).await?;
    cache.get_or_set("loaded", 1u8).await?;
    cache.try_get_or_set_async("fails", async { Err::<u8, _>("secret-value") }).await.unwrap_err();
    adapter.put_next(Verb::Get, 1, Fault::Fail(ErrorKind::Timeout));
    cache.get::<u8>("secret-key").await.unwrap_err();
    adapter.put_next(Verb::Get, 1, Fault::Corrupt);
    cache.get::<u8>("secret-key").await?;
    cache.remove("secret-key").await?;
    cache.clear().await?;
    cache.swap_adapter("memory")?;
    Ok(cache.stats())
}

/// A counter of each kind, with its labels.
#[test]
fn every_event_counts() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stats =
        metrics::with_local_recorder(&recorder, || runtime.block_on(one_of_each())).unwrap();
    let text = handle.render();
    let own = |name: &str, more: &str| format!("{name}{{cache=\"own\",backend=\"memory\"{more}}}");
    for (name, more, count) in [
        ("larder_sets_total", "", stats.sets),
        ("larder_hits_total", "", stats.hits),
        ("larder_misses_total", "", stats.misses),
        ("larder_loads_total", "", stats.loads),
        ("larder_load_errors_total", ",kind=\"Load\"", stats.load_errors),
        ("larder_backend_errors_total", ",kind=\"Timeout\"", stats.backend_errors),
        ("larder_decode_errors_total", "", stats.decode_errors),
        ("larder_removes_total", "", stats.removes),
        ("larder_clears_total", "", stats.clears),
        ("larder_swaps_total", "", stats.swaps),
        ("larder_load_seconds_count", "", 2),
        ("larder_call_seconds_count", ",op=\"get_many\"", 2),
    ] {
        let line = format!("{} {count}", own(name, more));
        assert!(
            count > 0 && text.lines().any(|counted| counted == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn the_size_of_a_store_is_a_gauge_where_it_is_known() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let cache = larder::CacheWrapper::new("memory").unwrap();
    cache.set_many((0..7).map(|number| (number.to_string(), number))).unwrap();
    let bytes = cache.stats().bytes.unwrap();
    metrics::with_local_recorder(&recorder, || {
        cache.record_size("own");
        larder::CacheWrapper::new("memcached").unwrap().record_size("away");
    });
    let text = handle.render();
    for (name, count) in [("larder_entries", 7), ("larder_bytes", bytes)] {
        let line = format!("{name}{{cache=\"own\",backend=\"memory\"}} {count}");
        assert!(text.lines().any(|counted| counted == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("away"), "{text}");
}

/// The names in a text that begin with `larder_`, a histogram's parts as the histogram.
fn names(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices("larder_").map(|(at, _)| &text[at..]);
    let names = starts.map(|from| {
        from.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default()
    });
    names
        .map(|name| {
            ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .unwrap_or(name)
        })
        .collect()
}

#[test]
fn the_tables_name_what_the_code_does() {
    let (documented, code) = SOURCE.split_once("pub fn metrics").unwrap();
    let rows = |text: &'static str| {
        names(text)
            .into_iter()
            .filter(|name| text.contains(&format!("| `{name}` |")))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(rows(documented), names(code), "the table in src/observe/metrics.rs");
    assert_eq!(rows(DOCUMENT), names(code), "the table in docs/observability.md");
    assert_eq!(names(code).len(), 27);
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
    let (shown, documented) = (names(DASHBOARD), names(DOCUMENT));
    assert!(shown.is_subset(&documented), "{:?}", shown.difference(&documented));
    let missing: Vec<_> = documented.difference(&shown).collect();
    assert!(missing.is_empty(), "the dashboard leaves out {missing:?}");
}
