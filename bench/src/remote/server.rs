//! Servers of our own, on free ports, gone with us.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
}

impl Server {
    /// A redis that writes nothing to the disk, on a port for plain TCP.
    pub(super) fn redis() -> Option<Self> {
        Self::redis_with(|port| ["--port", &port.to_string()].map(str::to_owned).to_vec())
    }

    /// [`redis`](Self::redis) with its ports and whatever else it is told.
    pub(super) fn redis_with(arguments: impl FnOnce(u16) -> Vec<String>) -> Option<Self> {
        let no_disk = ["--save", "", "--appendonly", "no"].map(str::to_owned);
        Self::start("redis-server", |port| no_disk.into_iter().chain(arguments(port)).collect())
    }

    /// `None` where the program is not installed.
    pub(super) fn start(program: &str, arguments: impl FnOnce(u16) -> Vec<String>) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let child = Command::new(program)
            .args(arguments(port))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("{program} is not installed: its lines are left out");
            return None;
        };
        let server = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is gone already, or goes now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
