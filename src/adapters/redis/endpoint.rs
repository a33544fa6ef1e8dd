//! Which server, and how to get in.

use super::errors::Failure;
use super::source::unreadable;
use crate::secret::Secret;
use crate::url::{CacheUrl, decode};
use crate::{Error, Result};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
};
use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};
use tokio::net::TcpStream;

const HOST: &str = "127.0.0.1";
const PORT: u16 = 6379;
/// As long may what was sent stay unacknowledged.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(10);

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
pub(super) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    /// Takes the place of host and port.
    pub(super) unix_socket: Option<PathBuf>,
    pub(super) tls: bool,
    pub(super) ca_cert: Option<PathBuf>,
    pub(super) db: u32,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) resp3: bool,
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
    /// Reads `scheme://[[user]:password@]host[:port][/db]` or `scheme+unix://[[user]:password@]/path`, and the parameters of
    /// the same meaning.
    pub(super) fn read(url: &mut CacheUrl) -> Result<Self> {
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
        Ok(endpoint)
    }

    fn read_login(&mut self, login: &str) -> Result<()> {
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        self.user = Some(decode(user)?).filter(|user| !user.is_empty());
        self.password = password
            .map(decode)
            .transpose()?
            .filter(|password| !password.is_empty())
            .map(Secret::new);
        Ok(())
    }

    fn read_server(&mut self, server: &str) -> Result<()> {
        let (host, port) = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
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
                "the URL of a Unix socket has an absolute path, such as `redis+unix:///run/redis.sock`",
            ));
        }
        self.unix_socket = Some(decode(path)?.into());
        Ok(())
    }

    /// Takes `db`, `user`, `password`, `resp3` and `ca_cert` out of a URL.
    fn take(&mut self, url: &mut CacheUrl) -> Result<()> {
        let twice = |name: &str| {
            Error::config(format!(
                "the URL parameter `{name}` is also said before the question mark"
            ))
        };
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

    pub(super) fn check(&self) -> Result<()> {
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

    /// What is said to the server first.
    pub(super) fn login(&self) -> RedisConnectionInfo {
        let protocol = if self.resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 };
        let mut login =
            RedisConnectionInfo::default().set_db(self.db.into()).set_protocol(protocol);
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password.expose());
        }
        login
    }

    /// What the driver needs to connect and encrypt. Reads the CA file, so that a renewed one is found.
    pub(super) fn encrypted(&self) -> Result<ConnectionInfo, Failure> {
        let address = ConnectionAddr::TcpTls {
            host: self.host.clone(),
            port: self.port,
            insecure: false,
            tls_params: None,
        };
        let info = address
            .into_connection_info()?
            .set_redis_settings(self.login())
            .set_tcp_settings(tcp_settings());
        match &self.ca_cert {
            None => Ok(info),
            Some(path) => {
                let pem = std::fs::read(path).map_err(|cause| unreadable(path, cause))?;
                with_authority(info, pem)
            }
        }
    }
}

/// The driver's own defaults are none of these: small commands wait for more, and a dead path is noticed by nobody.
fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive());
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(USER_TIMEOUT);
    settings
}

/// The same for a stream of ours.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&keepalive())
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10))
}

#[cfg(feature = "tls")]
fn with_authority(info: ConnectionInfo, pem: Vec<u8>) -> Result<ConnectionInfo, Failure> {
    let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(pem) };
    // Whatever is wrong with it, the file is the one that was named.
    let failed =
        |_| Error::config("the file that `ca_cert` names holds no certificates in PEM form");
    let client = redis::Client::build_with_tls(info, certificates).map_err(failed)?;
    Ok(client.get_connection_info().clone())
}

#[cfg(not(feature = "tls"))]
fn with_authority(_: ConnectionInfo, _: Vec<u8>) -> Result<ConnectionInfo, Failure> {
    Err(Error::config("`ca_cert` needs the feature `tls`").into())
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
    use crate::ErrorKind;

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
