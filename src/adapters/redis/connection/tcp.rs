//! The options of a TCP connection.

use redis::io::tcp::socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;

/// Data that was sent may stay unacknowledged for so long.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// A server on this machine answers the login sooner. A tunnel on this machine does not, if the
/// server is far away.
const AT_HAND: Duration = Duration::from_millis(1);

/// With the system's defaults a small command waits in the kernel for the answers to earlier ones,
/// and a dead path goes unnoticed.
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

/// Switches Nagle's algorithm (RFC 896) on if the server is on this machine. `answered_in` is the
/// time that the server took for the login.
///
/// The kernel then keeps a small command until earlier ones are acknowledged, and sends it together
/// with those that have come meanwhile. Between machines that wait is a round trip of the network.
/// On one machine it is the time that the server works on the earlier commands: a later one would
/// wait for that time anyway, and each packet that is saved is a wake-up of the server.
pub(super) fn hold_if_at_hand(stream: &TcpStream, answered_in: Duration) -> io::Result<()> {
    if answered_in < AT_HAND && is_on_this_machine(stream)? {
        stream.set_nodelay(false)?;
    }
    Ok(())
}

/// An address of this machine reaches itself without a network.
fn is_on_this_machine(stream: &TcpStream) -> io::Result<bool> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    Ok(peer.is_loopback() || peer == stream.local_addr()?.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

    use super::*;
    use tokio::net::TcpListener;

    async fn connected() -> (TcpStream, TcpListener) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        set_up(&stream).unwrap();
        (stream, listener)
    }

    #[tokio::test]
    async fn a_server_at_hand_is_sent_small_commands_together() {
        let (stream, _listener) = connected().await;
        hold_if_at_hand(&stream, Duration::from_micros(999)).unwrap();
        assert!(!stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn a_server_behind_a_tunnel_is_sent_each_command_at_once() {
        let (stream, _listener) = connected().await;
        hold_if_at_hand(&stream, AT_HAND).unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
