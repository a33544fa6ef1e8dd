//! The layer around the adapter of a server that is named by URL: [`Resilient`], unless the URL
//! turns it off.

use crate::adapter::AsyncCacheAdapter;
use crate::adapters::Remote;
use crate::error::Result;
use crate::layers::Resilient;
use crate::url::CacheUrl;
use std::sync::Arc;

/// Builds the adapter of a URL with the layer around it, and takes the parameters of the layer out
/// of the URL.
pub(super) fn around<A: AsyncCacheAdapter>(
    remote: Remote<A>,
    url: &mut CacheUrl,
) -> Result<Arc<dyn AsyncCacheAdapter>> {
    let Remote { adapter, op_timeout, default_ttl, is_one } = remote;
    let is_on = url.take("resilient")?.unwrap_or(true);
    let (breaker, retry) = (url.take("breaker")?, url.take("retry")?);
    let (recovery, fail_open) = (url.take("recovery")?, url.take("fail_open")?);
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
