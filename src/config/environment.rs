//! What the environment says, where nobody said it in code.

use super::{IntoAdapter, Kind};
use crate::url::{CacheUrl, Parameter};
use crate::{AsyncCacheAdapter, Error, Lifetime, Result};
use std::env;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// The global adapter, by larder's name and then by those of the Python original.
const ADAPTER: [&str; 3] = ["LARDER_URL", "PRIVEX_ASYNC_CACHE_ADAPTER", "PRIVEX_CACHE_ADAPTER"];
const TTL: [&str; 2] = ["LARDER_TTL", "PRIVEX_CACHE_TIMEOUT"];

/// The adapter of the global cache: what the environment names, or memory.
pub(crate) fn from_environment() -> Result<Arc<dyn AsyncCacheAdapter>> {
    match first(&ADAPTER)? {
        Some((variable, name)) => {
            name.into_adapter().map_err(|error| Error::config(format!("{variable}: {error}")))
        }
        None => "memory".into_adapter(),
    }
}

/// The URL of a kind, with what it leaves open filled in from the environment.
pub(crate) fn with_environment(kind: &Kind, url: Option<&str>) -> Result<String> {
    let mut url = match (url, kind.name) {
        (Some(url), _) => url.to_owned(),
        (None, "redis") => {
            let (host, port, db) = (
                host("PRIVEX_REDIS_HOST")?,
                number("PRIVEX_REDIS_PORT")?,
                number("PRIVEX_REDIS_DB")?,
            );
            format!("redis://{host}:{}/{}", port.unwrap_or(6379), db.unwrap_or(0))
        }
        (None, "memcached") => {
            let (host, port) = (host("PRIVEX_MEMCACHED_HOST")?, number("PRIVEX_MEMCACHED_PORT")?);
            format!("memcached://{host}:{}", port.unwrap_or(11211))
        }
        (None, name) => format!("{name}:"),
    };
    if !CacheUrl::parse(&url)?.has("default_ttl")
        && let Some((variable, ttl)) = first(&TTL)?
    {
        let ttl = Lifetime::parse(&ttl)
            .ok_or_else(|| Error::config(format!("{variable} must be {}", Lifetime::FORM)))?;
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str("default_ttl=");
        url.push_str(
            &ttl.as_millis_ceil().map_or_else(|| "never".to_owned(), |ms| format!("{ms}ms")),
        );
    }
    Ok(url)
}

/// The first of the variables that is set and not empty.
fn first(variables: &[&'static str]) -> Result<Option<(&'static str, String)>> {
    for variable in variables {
        if let Some(value) = text(variable)? {
            return Ok(Some((variable, value)));
        }
    }
    Ok(None)
}

fn text(variable: &str) -> Result<Option<String>> {
    match env::var(variable) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(Error::config(format!("{variable} is not UTF-8"))),
    }
}

fn number(variable: &str) -> Result<Option<u16>> {
    let Some(value) = text(variable)? else { return Ok(None) };
    value
        .parse()
        .map(Some)
        .map_err(|_| Error::config(format!("{variable} must be a whole number up to 65535")))
}

/// A host as it stands in a URL.
fn host(variable: &str) -> Result<String> {
    let Some(host) = text(variable)? else { return Ok("127.0.0.1".to_owned()) };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{bare}]"));
    }
    if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Ok(host);
    }
    Err(Error::config(format!("{variable} must be a host name or an IP address")))
}
