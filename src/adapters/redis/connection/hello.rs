//! What a server says of itself in its answer to `HELLO`.

use crate::adapters::redis::reply::Reply;

/// The oldest version that tells of changes between its answers: redis 6 may tell in the middle of
/// one (<https://github.com/redis/redis/issues/8935>). Valkey began with 7.2.
const TELLS_SINCE: u32 = 7;

/// The fields of the answer, in either version of the protocol.
pub(super) struct Hello<'a>(Vec<(&'a Reply, &'a Reply)>);

impl<'a> Hello<'a> {
    /// Reads an answer. One that is none, such as an error, has no fields.
    pub(super) fn of(answer: &'a Reply) -> Self {
        Self(match answer {
            Reply::Map(fields) => fields.iter().map(|(name, value)| (name, value)).collect(),
            Reply::Array(fields) => {
                fields.chunks_exact(2).map(|field| (&field[0], &field[1])).collect()
            }
            _ => Vec::new(),
        })
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(known, _)| text(known) == Some(name))
            .and_then(|(_, value)| text(value))
    }

    /// In which mode the server is, such as `standalone`.
    pub(super) fn mode(&self) -> Option<&'a str> {
        self.field("mode")
    }

    /// Whether the server can tell of changes in order with its answers.
    pub(super) fn tells_in_order(&self) -> bool {
        let major =
            self.field("version").and_then(|version| version.split('.').next()?.parse().ok());
        matches!(self.field("server"), Some("redis" | "valkey"))
            && major.is_some_and(|major: u32| major >= TELLS_SINCE)
    }
}

fn text(value: &Reply) -> Option<&str> {
    match value {
        Reply::Bulk(text) => std::str::from_utf8(text).ok(),
        Reply::Simple(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Reply {
        Reply::Bulk(text.to_owned().into())
    }

    fn tells(server: &str, version: &str) -> bool {
        let fields = [("server", server), ("version", version), ("mode", "standalone")]
            .map(|(name, value)| (bulk(name), bulk(value)));
        let flat = fields.clone().into_iter().flat_map(|(name, value)| [name, value]).collect();
        let [list, map] = [Reply::Array(flat), Reply::Map(fields.to_vec())];
        assert_eq!(Hello::of(&list).mode(), Some("standalone"));
        assert_eq!(Hello::of(&list).tells_in_order(), Hello::of(&map).tells_in_order());
        Hello::of(&map).tells_in_order()
    }

    #[test]
    fn servers_from_version_7_on_tell_in_order() {
        for (server, version, expected) in [
            ("redis", "7.0.15", true),
            ("redis", "8.2.1", true),
            ("redis", "10.0.0", true),
            ("valkey", "9.0.0", true),
            ("valkey", "7.2.5", true),
            ("redis", "6.2.14", false),
            ("redis", "", false),
            ("redis", "unstable", false),
            ("other", "9.0.0", false),
        ] {
            assert_eq!(tells(server, version), expected, "{server} {version}");
        }
        assert!(!Hello::of(&Reply::Nil).tells_in_order());
        assert_eq!(Hello::of(&Reply::Array(vec![bulk("mode")])).mode(), None);
    }
}
