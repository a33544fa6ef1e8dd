//! Configuration by environment variables, for settings that neither code nor a URL gives.

use super::{Kind, Opened, open};
use crate::error::{Error, Result};
use crate::expiry::Lifetime;
use crate::url::{CacheUrl, Parameter};
use std::env;
use std::net::Ipv6Addr;

/// The variables that name the adapter: larder's own, then those of the Python original.
const ADAPTER: [&str; 3] = ["LARDER_URL", "PRIVEX_ASYNC_CACHE_ADAPTER", "PRIVEX_CACHE_ADAPTER"];
const TTL: [&str; 2] = ["LARDER_TTL", "PRIVEX_CACHE_TIMEOUT"];

/// The adapter that the environment names, or memory.
pub(crate) fn from_environment() -> Result<Opened> {
    match first(&ADAPTER)? {
        Some((variable, name)) => {
            open(&name).map_err(|error| Error::config(format!("{variable}: {error}")))
        }
        None => open("memory"),
    }
}

/// The URL of a kind that was named without a URL.
pub(super) fn url_of(kind: &Kind) -> Result<CacheUrl> {
    let url = match kind.name {
        "redis" => {
            let (host, port, db) = (
                host("PRIVEX_REDIS_HOST")?,
                port("PRIVEX_REDIS_PORT")?,
                number("PRIVEX_REDIS_DB")?,
            );
            format!("redis://{host}:{}/{}", port.unwrap_or(6379), db.unwrap_or(0))
        }
        "memcached" => {
            let (host, port) = (host("PRIVEX_MEMCACHED_HOST")?, port("PRIVEX_MEMCACHED_PORT")?);
            format!("memcached://{host}:{}", port.unwrap_or(11211))
        }
        name => format!("{name}:"),
    };
    CacheUrl::parse(&url)
}

/// Adds the parameters that the environment gives and the URL does not.
pub(super) fn fill_in(url: &mut CacheUrl) -> Result<()> {
    if !url.has("default_ttl")
        && let Some((variable, ttl)) = first(&TTL)?
    {
        if Lifetime::parse(&ttl).is_none() {
            return Err(Error::config(format!("{variable} must be {}", Lifetime::FORM)));
        }
        url.fill_in("default_ttl", ttl);
    }
    Ok(())
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

/// A variable without the white space around it, which often comes from files and here-documents.
fn text(variable: &str) -> Result<Option<String>> {
    match env::var(variable) {
        Ok(value) => Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty())),
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

fn port(variable: &str) -> Result<Option<u16>> {
    match number(variable)? {
        Some(0) => Err(Error::config(format!("{variable} must not be 0"))),
        port => Ok(port),
    }
}

/// A host, as a URL needs it.
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
