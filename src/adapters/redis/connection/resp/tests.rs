use super::*;

/// All messages of `bytes`, read in pieces of so many bytes, and the parser after them.
fn read_all(bytes: &[u8], piece: usize) -> io::Result<(Vec<Message>, Parser)> {
    let mut parser = Parser::new(Bounds::new(1 << 20, Duration::from_secs(60)));
    let (mut input, mut messages) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(piece);
        while let Some(message) = parser.next(&mut input)? {
            messages.push(message);
        }
    }
    Ok((messages, parser))
}

fn read(bytes: &[u8], piece: usize) -> io::Result<Vec<Message>> {
    read_all(bytes, piece).map(|(messages, _)| messages)
}

/// One reply, the same however it is cut.
fn one(bytes: &[u8]) -> Message {
    let mut whole = read(bytes, bytes.len()).unwrap();
    for piece in 1..bytes.len() {
        assert_eq!(read(bytes, piece).unwrap(), whole, "in pieces of {piece}: {bytes:?}");
    }
    assert_eq!(whole.len(), 1, "{bytes:?}");
    whole.remove(0)
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.to_owned().into())
}

/// What the redis crate reads.
fn by_the_crate(bytes: &[u8]) -> Reply {
    redis::parse_redis_value(bytes).unwrap().into()
}

#[test]
fn every_kind_is_read_in_any_pieces() {
    for (bytes, value) in [
        (&b"$5\r\nhello\r\n"[..], bulk("hello")),
        (b"$0\r\n\r\n", bulk("")),
        (b"$2\r\n\r\n\r\n", bulk("\r\n")),
        (b"$-1\r\n", Reply::Nil),
        (b"*-1\r\n", Reply::Nil),
        (b"_\r\n", Reply::Nil),
        (b":-42\r\n", Reply::Int(-42)),
        (b"+OK\r\n", Reply::Okay),
        (b"+PONG\r\n", Reply::Simple("PONG".to_owned())),
        (b"#t\r\n", Reply::Boolean(true)),
        (b",1.5\r\n", Reply::Double(1.5)),
        (b"*0\r\n", Reply::Array(vec![])),
        (
            b"*2\r\n$1\r\na\r\n*1\r\n:7\r\n",
            Reply::Array(vec![bulk("a"), Reply::Array(vec![Reply::Int(7)])]),
        ),
        (b"~1\r\n:1\r\n", Reply::Set(vec![Reply::Int(1)])),
        (b"%1\r\n:2\r\n:1\r\n", Reply::Map(vec![(Reply::Int(2), Reply::Int(1))])),
        (b"|1\r\n+ttl\r\n:9\r\n:1\r\n", Reply::Int(1)),
        (b"|0\r\n|0\r\n:1\r\n", Reply::Int(1)),
        (b"*1\r\n|1\r\n+a\r\n+b\r\n:1\r\n", Reply::Array(vec![Reply::Int(1)])),
    ] {
        assert_eq!(one(bytes), Message::Reply(value), "{bytes:?}");
    }
    for bytes in
        [&b"(123456789012345678901234567890\r\n"[..], b"=7\r\ntxt:abc\r\n", b"!6\r\nERR no\r\n"]
    {
        assert_eq!(one(bytes), Message::Reply(by_the_crate(bytes)), "{bytes:?}");
    }
}

#[test]
fn pushes_keep_their_place_between_replies() {
    let bytes = b":1\r\n>2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n:2\r\n";
    for piece in 1..=bytes.len() {
        let keys = Reply::Array(vec![bulk("k")]);
        let push = vec![Reply::Simple("invalidate".to_owned()), keys];
        assert_eq!(
            read(bytes, piece).unwrap(),
            [Message::Reply(Reply::Int(1)), Message::Push(push), Message::Reply(Reply::Int(2))],
        );
    }
    assert!(read(b"*1\r\n>1\r\n+a\r\n", 100).is_err(), "in a reply there is none");
}

const MIXED: &[u8] =
    b"+OK\r\n:-12\r\n$3\r\na\nb\r\n$-1\r\n*2\r\n$0\r\n\r\n*1\r\n:1\r\n%1\r\n+a\r\n_\r\n\
        |1\r\n+a\r\n+b\r\n#t\r\n=7\r\ntxt:abc\r\n~0\r\n*-1\r\n-ERR no\r\n!5\r\nERR x\r\n";

#[test]
fn replies_are_told_apart_however_they_are_cut() {
    for size in 1..=MIXED.len() {
        let (messages, parser) = read_all(MIXED, size).unwrap();
        assert!(parser.is_between() && parser.begun.is_none(), "{size}");
        assert_eq!((parser.ended, messages.len()), (12, 12), "{size}");
    }
}

#[test]
fn errors_become_text_and_values_stay_as_they_are() {
    let stream = b"-ERR unknown 'k\xFFv'\r\n$2\r\n\xC1\xFF\r\n!4\r\nX \xFF\xFE\r\n";
    for size in 1..=stream.len() {
        let (messages, mut parser) = read_all(stream, size).unwrap();
        let read = |bytes: &[u8]| Message::Reply(by_the_crate(bytes));
        let value = Message::Reply(Reply::Bulk(Bytes::from_static(b"\xC1\xFF")));
        assert_eq!(messages, [read(b"-ERR unknown 'k?v'\r\n"), value, read(b"!4\r\nX ??\r\n")]);
        assert_eq!(parser.take_first_error().as_deref(), Some("ERR unknown 'k?v'"));
    }
}

#[test]
fn a_reply_has_bounds() {
    let refused = |bytes: &[u8]| {
        let is_refused = read(bytes, bytes.len()).is_err();
        assert_eq!(read(bytes, 7).is_err(), is_refused, "{bytes:?}");
        is_refused
    };
    assert!(refused(b"$99999999999999999999\r\n"));
    assert!(refused(b"$68000000\r\n"), "more than 64 MiB");
    assert!(!refused(b"$67000000\r\n"));
    assert!(refused(b"*9999999\r\n"));
    assert!(refused(b"*1000000\r\n*1000000\r\n"));
    assert!(refused(&[b"+".as_slice(), &[b'a'; LINE + 1]].concat()));
    for length in ["", "-", "-2", "-0", "--1", "1-", "-12", "?"] {
        assert!(refused(format!("${length}\r\n").as_bytes()), "{length}");
        assert!(refused(format!("*{length}\r\n").as_bytes()), "{length}");
    }
    assert!(!refused(b"$-1\r\n*-1\r\n") && refused(b"%-1\r\n"));
    assert!(refused(b"HTTP/1.1 200 OK\r\n") && refused(b"\x15\x03\x03") && refused(b"$x\r\n"));
    assert!(refused(b"$1\r\nabc") && refused(b"+a\n") && refused(b"\r\n"));
}

#[test]
fn the_values_of_a_reply_are_counted_at_all_depths() {
    let read = |reply: &str, times: usize| {
        read_all(reply.repeat(times).as_bytes(), 1 << 16).map(|(_, parser)| parser.values)
    };
    for (begin, nested) in [
        ("*65536\r\n", "*65537\r\n"),
        ("~65536\r\n", "*60000\r\n~6000\r\n"),
        (">65536\r\n", ">60000\r\n+a\r\n*6000\r\n"),
        ("%32768\r\n", "%32768\r\n+a\r\n*1\r\n"),
        ("|32768\r\n", "|32768\r\n+a\r\n%1\r\n"),
    ] {
        assert_eq!(read(begin, 1).unwrap(), VALUES, "{begin}");
        let error = read(nested, 1).unwrap_err();
        assert_eq!(error.to_string(), "a reply has too many values", "{nested}");
    }
    assert!(read("*1\r\n", 1 << 17).is_err(), "one in the other");
    assert!(read("|1\r\n+a\r\n+b\r\n", 1 << 17).is_err(), "attributes of one value");
    assert!(read("*1000\r\n:1\r\n", 1).is_ok());
    assert!(read("*2\r\n:1\r\n:1\r\n", 1 << 17).is_ok(), "each reply by itself");
}

#[test]
fn a_reply_that_never_ends_is_given_up() {
    let mut parser = Parser::new(Bounds { value: u64::MAX, timeout: Duration::ZERO });
    let mut input = BytesMut::from(&b"$1000000\r\n"[..]);
    assert_eq!(parser.next(&mut input).unwrap(), None);
    let ended = (0..10).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        input.extend_from_slice(&[b'a'; 10]);
        parser.next(&mut input).is_err()
    });
    assert!(ended);
}

#[test]
fn a_large_value_takes_its_own_room_and_no_more() {
    let len = 3 << 20;
    let bytes = [format!("${len}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat();
    let Message::Reply(Reply::Bulk(value)) = read(&bytes, 64 << 10).unwrap().remove(0) else {
        panic!("a string")
    };
    let value = value.try_into_mut().unwrap();
    assert_eq!((value.len(), value.capacity()), (len, len));
}

fn is_comparable(value: &Reply) -> bool {
    match value {
        Reply::Array(list) | Reply::Set(list) => list.iter().all(is_comparable),
        Reply::Map(pairs) => {
            pairs.iter().all(|(key, value)| is_comparable(key) && is_comparable(value))
        }
        Reply::Double(number) => !number.is_nan(),
        Reply::Error(_) | Reply::Unknown => false,
        _ => true,
    }
}

/// A reply as a server writes it.
fn arbitrary(depth: usize, out: &mut Vec<u8>) {
    let text: Vec<u8> = (0..fastrand::usize(..20)).map(|_| fastrand::u8(b' '..b'~')).collect();
    match fastrand::u8(..if depth < 3 { 13 } else { 9 }) {
        0 => out.extend_from_slice(b"$-1\r\n"),
        1 => out.extend_from_slice(b"_\r\n"),
        2 => out.extend_from_slice(format!(":{}\r\n", fastrand::i64(..)).as_bytes()),
        3 => out.extend([b"+", text.as_slice(), b"\r\n"].concat()),
        4 => out.extend_from_slice(format!(",{}\r\n", fastrand::f64() * 1e9).as_bytes()),
        5 => out.extend_from_slice(if fastrand::bool() { b"#t\r\n" } else { b"#f\r\n" }),
        6..9 => {
            let bytes: Vec<u8> = (0..fastrand::usize(..60)).map(|_| fastrand::u8(..)).collect();
            out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
            out.extend([bytes.as_slice(), b"\r\n"].concat());
        }
        kind => {
            let count = fastrand::usize(..4);
            let (letter, elements) = match kind {
                9 | 10 => ('*', count),
                11 => ('~', count),
                _ => ('%', count * 2),
            };
            out.extend_from_slice(format!("{letter}{count}\r\n").as_bytes());
            (0..elements).for_each(|_| arbitrary(depth + 1, out));
        }
    }
}

/// Random replies, whole, cut off and with bytes changed: what the redis crate reads is what is
/// read here, and what it refuses or waits for is not read here.
#[test]
fn the_redis_crate_reads_the_same() {
    let seed = std::env::var("LARDER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("LARDER_SEED={seed}");
    fastrand::seed(seed);
    let rounds = if std::env::var_os("LARDER_SOAK").is_some() { 3_000_000 } else { 30_000 };
    let mut compared = 0;
    for _ in 0..rounds {
        let mut bytes = Vec::new();
        arbitrary(0, &mut bytes);
        match fastrand::u8(..4) {
            0 => bytes.truncate(fastrand::usize(..bytes.len())),
            1 => {
                let at = fastrand::usize(..bytes.len());
                bytes[at] = fastrand::u8(..);
            }
            _ => {}
        }
        if bytes.is_empty() {
            continue;
        }
        let ours = read(&bytes, 1 + fastrand::usize(..bytes.len()));
        let ours = ours.map(|messages| messages.into_iter().next());
        let theirs = redis::parse_redis_value(&bytes).ok().map(Reply::from);
        match (ours, theirs) {
            (Ok(Some(Message::Reply(ours))), Some(theirs)) if is_comparable(&theirs) => {
                assert_eq!(ours, theirs, "{:?}", String::from_utf8_lossy(&bytes));
                compared += 1;
            }
            // Where a byte was changed the bounds may be the stricter; what the redis crate cannot
            // read is not made up.
            (Ok(Some(Message::Reply(ours))), None) => {
                assert!(!is_comparable(&ours), "{ours:?} of {:?}", String::from_utf8_lossy(&bytes));
            }
            _ => {}
        }
    }
    assert!(compared > rounds / 3, "{compared} of {rounds} were compared");
}
