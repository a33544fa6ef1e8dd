//! What stands between a cache and a server that it was given by name: [`Resilient`], unless the URL says otherwise.

use crate::adapters::Remote;
use crate::layers::Resilient;
use crate::url::{CacheUrl, LAYER};
use crate::{AsyncCacheAdapter, Result};
use std::sync::Arc;

/// The adapter of a URL, with the layer around it.
pub(super) fn open<A: AsyncCacheAdapter>(
    url: &str,
    open: fn(&str) -> Result<Remote<A>>,
) -> Result<Arc<dyn AsyncCacheAdapter>> {
    let (mut layer, rest) = split(url)?;
    // Read before anything is refused, so that what is refused first is what comes first for who reads the URL.
    let is_on = layer.take("resilient")?.unwrap_or(true);
    let (breaker, retry) = (layer.take("breaker")?, layer.take("retry")?);
    let (recovery, fail_open) = (layer.take("recovery")?, layer.take("fail_open")?);
    layer.finish()?;
    let Remote { adapter, op_timeout, default_ttl, is_one } = open(&rest)?;
    if !is_on {
        return Ok(Arc::new(adapter));
    }
    let mut builder = Resilient::builder(adapter)
        .inner_deadline(op_timeout)
        .default_ttl(default_ttl)
        .breaker(breaker.unwrap_or(is_one));
    if let Some(times) = retry {
        builder = builder.retry(times);
    }
    if let Some(recovery) = recovery {
        builder = builder.recovery(recovery);
    }
    if let Some(fail_open) = fail_open {
        builder = builder.fail_open(fail_open);
    }
    Ok(Arc::new(builder.build()))
}

/// The layer's parameters, and the URL without them.
fn split(url: &str) -> Result<(CacheUrl, String)> {
    let (before, query) = url.split_once('?').unwrap_or((url, ""));
    let is_layers =
        |parameter: &&str| LAYER.contains(&parameter.split('=').next().unwrap_or_default());
    let (layers, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_layers);
    let scheme = before.split(':').next().unwrap_or_default();
    let layer = CacheUrl::parse(&format!("{scheme}:?{}", layers.join("&")))?;
    let others = others.join("&");
    let rest = if others.is_empty() { before.to_owned() } else { format!("{before}?{others}") };
    Ok((layer, rest))
}
