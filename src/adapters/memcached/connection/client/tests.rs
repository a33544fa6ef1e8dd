use super::*;
use crate::adapters::memcached::connection::Want;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

const MOST: usize = 1 << 10;

fn pair() -> (Client, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("two sockets");
    (Client::new(Socket::Unix(ours), MOST), theirs)
}

/// What a client finds for `keys` if the server answers these bytes, in pieces of so many.
async fn found(keys: &[&str], bytes: &[u8], piece: usize) -> Result<Vec<bool>, Fault> {
    let (mut client, mut server) = pair();
    let answering = async {
        for piece in bytes.chunks(piece) {
            server.write_all(piece).await.expect("the client reads");
            tokio::task::yield_now().await;
        }
    };
    let (found, ()) = tokio::join!(client.get(keys, Want::Value.into(), None, 7), answering);
    assert_eq!(client.is_closed(), matches!(found, Err(Fault::Misplaced)));
    Ok(found?.iter().map(Option::is_some).collect())
}

#[tokio::test]
async fn hits_are_put_beside_their_keys() {
    let bytes = b"VA 1 ka O7\r\nx\r\nVA 0 ka O7\r\n\r\nMN\r\n";
    for piece in 1..=bytes.len() {
        let found = found(&["a", "b", "a", "c"], bytes, piece).await.expect("in step");
        assert_eq!(found, [true, false, true, false], "in pieces of {piece}");
    }
    assert_eq!(found(&["a"], b"EN\r\n", 9).await.expect("in step"), [false]);
}

#[tokio::test]
async fn an_answer_to_another_question_is_noticed() {
    for bytes in [
        &b"VA 1 kz O7\r\nx\r\nMN\r\n"[..],
        b"VA 1 ka O6\r\nx\r\nMN\r\n",
        b"VA 1 ka\r\nx\r\nMN\r\n",
        b"VA 1 O7\r\nx\r\nMN\r\n",
        b"VA 1 kb O7\r\nx\r\nVA 1 ka O7\r\nx\r\nMN\r\n",
        b"EN\r\nMN\r\n",
        b"NF O7\r\nMN\r\n",
        b"VERSION 1\r\n",
        // A hit without the value that was asked for.
        b"HD ka O7\r\nMN\r\n",
    ] {
        let found = found(&["a", "b"], bytes, bytes.len()).await;
        assert!(matches!(found, Err(Fault::Misplaced)), "{bytes:?}: {found:?}");
    }
    assert!(matches!(found(&["a"], b"MN\r\n", 9).await, Err(Fault::Misplaced)));
}

#[tokio::test]
async fn an_error_of_the_server_leaves_the_connection_in_step() {
    let (mut client, mut server) = pair();
    let bytes = b"SERVER_ERROR out of memory\r\nVA 1 kb O1\r\nx\r\nMN\r\nEN\r\n";
    server.write_all(&bytes[..bytes.len() - 4]).await.expect("room");
    let error = client.get(&["a", "b"], Want::Value.into(), None, 1).await.expect_err("refused");
    assert!(matches!(error, Fault::Refused(words) if words == "out of memory"));
    assert!(!client.is_closed());
    server.write_all(b"EN\r\n").await.expect("room");
    let found = client.get(&["a"], Want::Value.into(), None, 2).await.expect("in step");
    assert!(found[0].is_none());
}

#[tokio::test]
async fn what_came_without_being_asked_for_is_no_answer() {
    let (mut client, mut server) = pair();
    server.write_all(b"HD O1\r\nHD O2\r\n").await.expect("room");
    let written = client.delete("a", Condition::Always, 1).await.expect("in step");
    assert_eq!(written, Written::Done { cas: 0 });
    let later = client.delete("a", Condition::Always, 2).await;
    assert!(matches!(later, Err(Fault::Misplaced)) && client.is_closed());
}

#[test]
fn numbers_are_put_as_they_are_formatted() {
    for number in [0, 1, 9, 10, 1_048_576, u64::MAX] {
        let mut out = Vec::new();
        put_number(&mut out, number);
        assert_eq!(out, number.to_string().into_bytes());
    }
}

#[tokio::test]
async fn refused_items_are_named_by_their_numbers() {
    let (mut client, mut server) = pair();
    server.write_all(b"NS O4294967295\r\nNS O1\r\nMN\r\n").await.expect("room");
    let refused = client.set_all(u32::MAX, 3).await.expect("in step");
    assert_eq!(refused, [0, 2]);
    for bytes in [&b"NS O9\r\nMN\r\n"[..], b"NS\r\nMN\r\n", b"HD O1\r\n", b"NS O2\r\nNS O1\r\n"] {
        let (mut client, mut server) = pair();
        server.write_all(bytes).await.expect("room");
        let refused = client.set_all(1, 3).await;
        assert!(matches!(refused, Err(Fault::Misplaced)), "{bytes:?}: {refused:?}");
    }
}

/// More requests and answers than the buffers of the sockets hold: the server answers what it
/// has read before it reads on.
#[tokio::test]
async fn answers_are_read_while_requests_are_sent() {
    let (mut client, mut server) = pair();
    let keys: Vec<String> = (0..20_000).map(|n| format!("key-{n}")).collect();
    let answering = async {
        let (mut seen, mut line) = (Vec::new(), 0);
        while line < keys.len() {
            assert_ne!(server.read_buf(&mut seen).await.expect("requests"), 0);
            let lines: Vec<&[u8]> = seen.split_inclusive(|byte| *byte == b'\n').collect();
            let whole = lines.iter().filter(|line| line.ends_with(b"\n")).count();
            for key in &keys[line..whole.min(keys.len())] {
                let answer = format!("VA 100 k{key} O1\r\n{}\r\n", "x".repeat(100));
                server.write_all(answer.as_bytes()).await.expect("the client reads");
            }
            line = whole.min(keys.len());
        }
        server.write_all(b"MN\r\n").await.expect("the client reads");
    };
    let (found, ()) = tokio::join!(client.get(&keys, Want::Value.into(), None, 1), answering);
    assert!(found.expect("in step").iter().all(Option::is_some));
}

#[tokio::test]
async fn a_dropped_exchange_is_outlasted() {
    for answer in [&b"HD O1\r\n"[..], b""] {
        let (mut client, mut server) = pair();
        let short = Duration::from_millis(1);
        let late = timeout(short, client.delete("a", Condition::Always, 1)).await;
        assert!(late.is_err() && client.is_closed());
        let mut outlasted = pin!(client.outlast());
        assert!(timeout(short, outlasted.as_mut()).await.is_err());
        server.write_all(answer).await.expect("the client reads");
        if answer.is_empty() {
            drop(server);
        }
        outlasted.await;
    }
}

#[tokio::test]
async fn a_closed_connection_says_what_the_server_said() {
    let (mut client, mut server) = pair();
    server.write_all(b"ERROR Too many open connections\r\n").await.expect("room");
    drop(server);
    let error = client.ping().await.expect_err("closed");
    let Fault::Broken(cause) = error else { panic!("{error:?}") };
    assert!(cause.to_string().contains("Too many open connections"), "{cause}");
    assert!(client.is_closed());
}

/// Of the first key the value is read, and of the others only that they are there.
#[tokio::test]
async fn two_wants_share_an_exchange() {
    let wants = Wants { first: Want::Value, others: Want::Meta };
    for (bytes, is_right) in [
        (&b"VA 1 ka O7\r\nx\r\nHD kb O7\r\nHD kc O7\r\nMN\r\n"[..], true),
        (b"HD ka O7\r\nMN\r\n", false),
        (b"VA 1 kb O7\r\nx\r\nMN\r\n", false),
    ] {
        let (mut client, mut server) = pair();
        server.write_all(bytes).await.expect("room");
        let found = client.get(&["a", "b", "c"], wants, None, 7).await;
        assert_eq!(found.is_ok(), is_right, "{bytes:?}: {found:?}");
        let mut asked = [0; 128];
        let length = tokio::io::AsyncReadExt::read(&mut server, &mut asked).await.expect("asked");
        let lines: Vec<&str> =
            std::str::from_utf8(&asked[..length]).expect("ASCII").lines().collect();
        let [first, second, third, "mn"] = lines[..] else { panic!("{lines:?}") };
        assert!(first.starts_with("mg a v ") && second == third.replace("mg c", "mg b"));
        assert!(!second.contains(" v "), "{second}");
    }
}

#[tokio::test]
async fn a_value_without_bound_ends_the_connection_at_once() {
    let (mut client, mut server) = pair();
    server.write_all(b"VA 1025 ka O7\r\n").await.expect("room");
    let error = client.get(&["a"], Want::Value.into(), None, 7).await.expect_err("too long");
    assert!(matches!(error, Fault::Unbounded { length: 1_025, most: MOST }), "{error:?}");
    assert!(client.is_closed());
}
