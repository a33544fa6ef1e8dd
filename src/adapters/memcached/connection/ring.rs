//! Chooses the server of a key.

use md5::{Digest, Md5};

/// How many points each digest makes on the ring, and how many digests each server has.
const POINTS: usize = 4;
const DIGESTS: usize = 40;

/// Consistent hashing as in libmemcached's weighted ketama, so that its clients find the same keys
/// on the same servers: 160 points for each server, from the MD5 of `host:port-n` (`host-n` on the
/// default port), and keys by the MD5 of the wire key.
#[derive(Clone, Debug)]
pub(in crate::adapters::memcached) struct Ring {
    points: Vec<(u32, usize)>,
}

impl Ring {
    /// The ring of servers with these names, in any order.
    pub(in crate::adapters::memcached) fn new(names: &[String]) -> Self {
        let mut points = Vec::new();
        if names.len() > 1 {
            for (server, name) in names.iter().enumerate() {
                for index in 0..DIGESTS {
                    let digest = Md5::digest(format!("{name}-{index}"));
                    points.extend((0..POINTS).map(|point| (number(&digest, point), server)));
                }
            }
            points.sort_unstable();
        }
        Self { points }
    }

    /// The index of the server of a wire key.
    pub(in crate::adapters::memcached) fn server(&self, wire: &str) -> usize {
        if self.points.is_empty() {
            return 0;
        }
        let hash = number(&Md5::digest(wire), 0);
        let at = self.points.partition_point(|(point, _)| *point < hash);
        self.points.get(at).or(self.points.first()).map_or(0, |(_, server)| *server)
    }
}

fn number(digest: &[u8], point: usize) -> u32 {
    digest[4 * point..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ports: &[u16]) -> Vec<String> {
        ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// The servers on which libmemcached 1.0.16 (pylibmc 1.6.3, `ketama_weighted`) stored the first
    /// 64 of these keys.
    #[test]
    fn libmemcached_finds_the_same_keys() {
        let ring = Ring::new(&names(&[21211, 21212, 21213]));
        let found: String =
            (0..64).map(|n| ring.server(&format!("larder:key-{n}")).to_string()).collect();
        assert_eq!(found, "1020022220201000220220200200210002212220210222220121010011120122");
    }

    #[test]
    fn a_server_less_moves_only_its_own_keys() {
        let all = Ring::new(&names(&[1, 2, 3, 4]));
        let fewer = Ring::new(&names(&[1, 2, 3]));
        let keys: Vec<String> = (0..4_000).map(|n| format!("key-{n}")).collect();
        let mut shares = [0; 4];
        for key in &keys {
            let server = all.server(key);
            shares[server] += 1;
            assert!(server == 3 || fewer.server(key) == server, "{key} moved");
        }
        println!("shares of 4,000 keys: {shares:?}");
        assert!(shares.iter().all(|share| (600..1_400).contains(share)), "{shares:?}");
    }
}
