//! Which server, and how to get in.

use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::url::{CacheUrl, decode};
use std::fmt;
use std::path::PathBuf;

const HOST: &str = "127.0.0.1";
const PORT: u16 = 6379;

/// The schemes, and what they say: encrypted, over a Unix socket.
const SCHEMES: [(&str, bool, bool); 7] = [
    ("redis", false, false),
    ("valkey", false, false),
    ("rediss", true, false),
    ("valkeys", true, false),
    ("redis+unix", false, true),
    ("valkey+unix", false, true),
    ("unix", false, true),
];

#[derive(Clone, Debug)]
pub(in crate::adapters::redis) struct Endpoint {
    pub(in crate::adapters::redis) host: String,
    pub(in crate::adapters::redis) port: u16,
    /// Takes the place of host and port.
    pub(in crate::adapters::redis) unix_socket: Option<PathBuf>,
    pub(in crate::adapters::redis) tls: bool,
    pub(in crate::adapters::redis) ca_cert: Option<PathBuf>,
    pub(in crate::adapters::redis) db: u32,
    pub(in crate::adapters::redis) user: Option<String>,
    pub(in crate::adapters::redis) password: Option<Secret>,
    pub(in crate::adapters::redis) resp3: bool,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            host: HOST.to_owned(),
            port: PORT,
            unix_socket: None,
            tls: false,
            ca_cert: None,
            db: 0,
            user: None,
            password: None,
            resp3: false,
        }
    }
}

impl Endpoint {
    /// Reads `scheme://[[user]:password@]host[:port][/db]` or
    /// `scheme+unix://[[user]:password@]/path`, and the parameters of the same meaning.
    pub(in crate::adapters::redis) fn read(url: &mut CacheUrl) -> Result<Self> {
        let Some(&(_, tls, unix)) = SCHEMES.iter().find(|(name, ..)| *name == url.scheme()) else {
            let known = SCHEMES.map(|(name, ..)| name).join(", ");
            return Err(Error::config(format!(
                "`{}:` is not a scheme of redis; there are: {known}",
                url.scheme()
            )));
        };
        let rest = url.rest().strip_prefix("//").unwrap_or(url.rest()).to_owned();
        if rest.contains('#') {
            return Err(Error::config("a redis URL has no `#`; in a password it is written `%23`"));
        }
        let mut endpoint = Self { tls, ..Self::default() };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest.as_str(), ""),
        };
        let server = match authority.rsplit_once('@') {
            Some((login, server)) => {
                endpoint.read_login(login)?;
                server
            }
            None => authority,
        };
        if unix {
            endpoint.read_socket(server, path)?;
        } else {
            endpoint.read_server(server)?;
            endpoint.read_db(path)?;
        }
        endpoint.take(url)?;
        endpoint.check_server()?;
        Ok(endpoint)
    }

    fn read_login(&mut self, login: &str) -> Result<()> {
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        self.user = Some(decode(user)?).filter(|user| !user.is_empty());
        // Nothing on both sides of the colon is no login; an empty password with a user is one.
        self.password = match password {
            Some("") if self.user.is_none() => None,
            password => password.map(decode).transpose()?.map(Secret::new),
        };
        Ok(())
    }

    fn read_server(&mut self, server: &str) -> Result<()> {
        let (host, port) = match server.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or_else(bad_host)?;
                if !is_ipv6(&decode(address)?) {
                    return Err(bad_host());
                }
                (
                    address,
                    if port.is_empty() {
                        ""
                    } else {
                        port.strip_prefix(':').ok_or_else(bad_host)?
                    },
                )
            }
            None => server.split_once(':').unwrap_or((server, "")),
        };
        if !host.is_empty() {
            self.host = decode(host)?;
        }
        if !port.is_empty() {
            self.port = port
                .parse()
                .map_err(|_| Error::config("the port of a redis URL is a number up to 65535"))?;
        }
        Ok(())
    }

    fn read_db(&mut self, path: &str) -> Result<()> {
        let db = path.trim_matches('/');
        if !db.is_empty() {
            self.db = db.parse().map_err(|_| {
                Error::config("the path of a redis URL is the number of a database, such as `/2`")
            })?;
        }
        Ok(())
    }

    fn read_socket(&mut self, server: &str, path: &str) -> Result<()> {
        if !server.is_empty() || path.len() < 2 {
            return Err(Error::config(
                "the URL of a Unix socket has an absolute path, such as \
                 `redis+unix:///run/redis.sock`",
            ));
        }
        self.unix_socket = Some(decode(path)?.into());
        Ok(())
    }

    /// Takes `db`, `user`, `password`, `resp3` and `ca_cert` out of a URL, and the address out of a
    /// table.
    fn take(&mut self, url: &mut CacheUrl) -> Result<()> {
        let twice = |name: &str| {
            Error::config(format!(
                "the URL parameter `{name}` is also said before the question mark"
            ))
        };
        let (host, port) = (url.take_address("host")?, url.take_address("port")?);
        if let Some(tls) = url.take_address("tls")? {
            self.tls = tls;
        }
        if let Some(path) = url.take_address::<String>("unix_socket")? {
            if host.is_some() || port.is_some() {
                return Err(Error::config(
                    "`unix_socket` is an address by itself: `host` and `port` do not go with it",
                ));
            }
            self.unix_socket = Some(path.into());
        }
        if let Some(host) = host {
            self.host = host;
        }
        if let Some(port) = port {
            self.port = port;
        }
        if let Some(db) = url.take::<u64>("db")? {
            if self.db != 0 {
                return Err(twice("db"));
            }
            self.db = u32::try_from(db)
                .map_err(|_| Error::config("the URL parameter `db` is too large"))?;
        }
        if let Some(user) = url.take::<String>("user")?
            && self.user.replace(user).is_some()
        {
            return Err(twice("user"));
        }
        if let Some(password) = url.take::<String>("password")?
            && self.password.replace(Secret::new(password)).is_some()
        {
            return Err(twice("password"));
        }
        if let Some(resp3) = url.take("resp3")? {
            self.resp3 = resp3;
        }
        if let Some(ca_cert) = url.take::<String>("ca_cert")? {
            self.ca_cert = Some(ca_cert.into());
        }
        Ok(())
    }

    /// Rejects a server that cannot be. A socket has neither host nor port.
    fn check_server(&self) -> Result<()> {
        if self.unix_socket.is_some() {
            return Ok(());
        }
        check_host(&self.host)?;
        if self.port == 0 {
            return Err(Error::config("the port of a redis server is a number from 1 to 65535"));
        }
        Ok(())
    }

    pub(in crate::adapters::redis) fn check(&self) -> Result<()> {
        self.check_server()?;
        if self.user.is_some() && self.password.is_none() {
            return Err(Error::config(
                "a user without a password; where the password is empty the URL says `user:@`",
            ));
        }
        if self.tls && self.unix_socket.is_some() {
            return Err(Error::config(
                "a Unix socket is not encrypted: `tls` and `unix_socket` do not go together",
            ));
        }
        if self.unix_socket.is_some() && cfg!(not(unix)) {
            return Err(Error::config("this platform has no Unix sockets"));
        }
        if self.ca_cert.is_some() && !self.tls {
            return Err(Error::config("`ca_cert` is for encrypted connections: `rediss:`"));
        }
        if self.tls && cfg!(not(feature = "tls")) {
            return Err(Error::config("`rediss:` needs the feature `tls`"));
        }
        Ok(())
    }
}

fn bad_host() -> Error {
    Error::config(
        "the host of a redis URL is a name or an address, with an IPv6 address in brackets: `[::1]`",
    )
}

/// Whether it is an IPv6 address, with or without a zone.
fn is_ipv6(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _zone)| address);
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Names are the resolver's to judge; what cannot be in any is refused at once.
fn check_host(host: &str) -> Result<()> {
    let is_odd = |character: char| {
        character.is_whitespace()
            || character.is_control()
            || matches!(character, '[' | ']' | '\\' | '/' | '@' | '?' | '#' | '%' | '"' | '<' | '>')
    };
    if is_ipv6(host) || (!host.is_empty() && !host.contains(':') && !host.contains(is_odd)) {
        Ok(())
    } else {
        Err(bad_host())
    }
}

/// Without user and password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.unix_socket {
            Some(path) => write!(f, "redis+unix://{}", path.display())?,
            None if self.host.contains(':') => {
                write!(f, "{scheme}://[{}]:{}", self.host, self.port)?
            }
            None => write!(f, "{scheme}://{}:{}", self.host, self.port)?,
        }
        match (self.db, &self.unix_socket) {
            (0, _) => Ok(()),
            (db, Some(_)) => write!(f, "?db={db}"),
            (db, None) => write!(f, "/{db}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn read(url: &str) -> Result<Endpoint> {
        let mut url = CacheUrl::parse(url)?;
        let endpoint = Endpoint::read(&mut url)?;
        url.finish()?;
        Ok(endpoint)
    }

    #[test]
    fn urls_name_a_server() {
        for (url, shown) in [
            ("redis:", "redis://127.0.0.1:6379"),
            ("redis://", "redis://127.0.0.1:6379"),
            ("REDIS://cache", "redis://cache:6379"),
            ("valkey://cache:7000/3", "redis://cache:7000/3"),
            ("redis://:secret@127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
            ("redis://ann:se%2Fcret@[::1]:6380/", "redis://[::1]:6380"),
            ("rediss://cache/0?ca_cert=/etc/ca.pem", "rediss://cache:6379"),
            ("valkeys://cache", "rediss://cache:6379"),
            ("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
            ("unix:///run/my%20redis.sock?db=2", "redis+unix:///run/my redis.sock?db=2"),
            ("redis+unix://:secret@/run/redis.sock", "redis+unix:///run/redis.sock"),
        ] {
            assert_eq!(read(url).unwrap().to_string(), shown, "{url}");
        }
    }

    fn build(url: &str) -> Result<Endpoint> {
        let endpoint = read(url)?;
        endpoint.check().map(|()| endpoint)
    }

    #[test]
    fn an_empty_password_is_one_and_none_is_not() {
        let endpoint = build("redis://ann:@cache").unwrap();
        assert_eq!(endpoint.user.as_deref(), Some("ann"));
        assert_eq!(endpoint.password.as_ref().map(Secret::expose), Some(""));
        for url in ["redis://ann@cache", "redis://cache?user=ann", "redis+unix://ann@/run/r.sock"] {
            let error = build(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.to_string().contains("password"), "{error}");
        }
        for url in ["redis://cache", "redis://:@cache", "redis://@cache"] {
            let endpoint = build(url).unwrap();
            assert!(endpoint.user.is_none() && endpoint.password.is_none(), "{url}");
        }
    }

    #[test]
    fn what_can_be_no_host_is_refused_at_once() {
        for host in [
            "[::1",
            "[::1]6379",
            "[::1]:x",
            "[nonsense]:1",
            "a b",
            "a%20b",
            "a%0Ab",
            "back\\slash",
            "%5Chost",
            "ho]st",
            "a:b:c",
            "h%3Fx",
            "%5B::1%5D",
            "%20",
            "a\tb",
        ] {
            let url = format!("redis://ann:hunter2@{host}");
            let error = build(&url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        for host in
            ["cache", "cache_1.internal", "::1", "fe80::1%eth0", "10.0.0.1", "xn--bcher-kva"]
        {
            let endpoint = Endpoint { host: host.to_owned(), ..Endpoint::default() };
            assert!(endpoint.check().is_ok(), "{host}");
        }
    }

    #[test]
    fn port_zero_is_refused_at_once() {
        for url in ["redis://cache:0", "rediss://[::1]:0", "valkey://ann:hunter2@cache:00/2"] {
            let error = build(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.to_string().contains("port"), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let no_host = Endpoint { port: 0, unix_socket: Some("/s".into()), ..Endpoint::default() };
        assert!(no_host.check().is_ok(), "a socket has no port");
    }

    #[test]
    fn logins_are_percent_decoded_and_never_shown() {
        let endpoint = read("redis://ann:p%40ss%3A%23w%C3%B6rd@cache").unwrap();
        assert_eq!(endpoint.user.as_deref(), Some("ann"));
        assert_eq!(endpoint.password.as_ref().map(Secret::expose), Some("p@ss:#wörd"));
        assert!(!format!("{endpoint:?} {endpoint}").contains("p@ss"));
        let endpoint = read("unix:///s?user=ann&password=p%40ss").unwrap();
        assert_eq!(
            (endpoint.user.as_deref(), endpoint.password.as_ref().map(Secret::expose)),
            (Some("ann"), Some("p@ss"))
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_repeating_it() {
        for url in [
            "redis://:hunter2@cache:port",
            "redis://:hunter2@cache/name",
            "redis://:hunter2@cache:70000",
            "redis://:hunter2@cache#insecure",
            "redis://:hunter2@cache?databse=2",
            "redis://:hunter2@cache/2?db=2",
            "redis://:hunter2@cache?password=hunter2",
            "redis+unix://:hunter2@cache/run/redis.sock",
            "redis+unix://:hunter2@",
            "redis://:hunter2%ff@cache",
        ] {
            let error = read(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
