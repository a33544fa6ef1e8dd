//! The most frequent commands, encoded where they are sent from: in the output of the connection,
//! without room of their own.

use super::commands::{self, Command, Condition, Ttl, bytes, done};
use super::raw::{Encode, EncodeAll, append_argument, append_count, append_number};
use bytes::Bytes;
use redis::Cmd;

/// As many bytes has a `SET` without key and value.
const AROUND_SET: usize = 96;

pub(super) struct Get<'k>(&'k str);

/// As [`commands::get`](super::commands::get), for a caller that sends it at once, and by itself.
pub(super) fn get(key: &str) -> Command<Option<Bytes>, Get<'_>> {
    Command { raw: Get(key), read: bytes, repeatable: true }
}

impl Encode for Get<'_> {
    fn write(&self, output: &mut Vec<u8>) {
        append_get(output, self.0);
    }

    fn for_the_driver(&self) -> Cmd {
        commands::get(self.0).raw.for_the_driver()
    }
}

fn append_get(output: &mut Vec<u8>, key: &str) {
    output.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
    append_argument(output, key.as_bytes());
}

fn append_time_left(output: &mut Vec<u8>, key: &str) {
    output.extend_from_slice(b"*2\r\n$4\r\nPTTL\r\n");
    append_argument(output, key.as_bytes());
}

/// `GET` and then `PTTL`, for each of these keys.
pub(super) struct GetEachWithLife<'n, 'k>(pub(super) &'n [&'k str]);

impl EncodeAll for GetEachWithLife<'_, '_> {
    fn count(&self) -> usize {
        2 * self.0.len()
    }

    fn write(&self, output: &mut Vec<u8>) {
        for key in self.0 {
            append_get(output, key);
            append_time_left(output, key);
        }
    }

    fn for_the_driver(&self) -> Vec<Cmd> {
        let both = |key: &&str| [commands::get(key).raw, commands::time_left(key).raw];
        self.0.iter().flat_map(both).map(|command| command.for_the_driver()).collect()
    }
}

/// One `MGET` of all keys, and then a `PTTL` for each.
pub(super) struct GetAllWithLives<N>(pub(super) N);

impl<N> EncodeAll for GetAllWithLives<N>
where
    N: ExactSizeIterator<Item: AsRef<str>> + Clone + Sync,
{
    fn count(&self) -> usize {
        1 + self.0.len()
    }

    fn write(&self, output: &mut Vec<u8>) {
        append_count(output, 1 + self.0.len());
        output.extend_from_slice(b"$4\r\nMGET\r\n");
        self.0.clone().for_each(|key| append_argument(output, key.as_ref().as_bytes()));
        self.0.clone().for_each(|key| append_time_left(output, key.as_ref()));
    }

    fn for_the_driver(&self) -> Vec<Cmd> {
        let values = commands::get_many(self.0.clone()).raw;
        let lives = self.0.clone().map(|key| commands::time_left(key.as_ref()).raw);
        [values].into_iter().chain(lives).map(|command| command.for_the_driver()).collect()
    }
}

pub(super) struct Set<'s> {
    key: &'s str,
    value: &'s [u8],
    ttl: Ttl,
    condition: Condition,
}

/// Whether the condition held.
pub(super) fn set<'s>(
    key: &'s str,
    value: &'s [u8],
    ttl: Ttl,
    condition: Condition,
) -> Command<bool, Set<'s>> {
    let repeatable = condition == Condition::None;
    Command { raw: Set { key, value, ttl, condition }, read: done, repeatable }
}

impl Encode for Set<'_> {
    fn write(&self, output: &mut Vec<u8>) {
        let expires = matches!(self.ttl, Ttl::Millis(_));
        let has_condition = self.condition != Condition::None;
        output.reserve(self.key.len() + self.value.len() + AROUND_SET);
        append_count(output, 3 + 2 * usize::from(expires) + usize::from(has_condition));
        output.extend_from_slice(b"$3\r\nSET\r\n");
        append_argument(output, self.key.as_bytes());
        append_argument(output, self.value);
        if let Ttl::Millis(millis) = self.ttl {
            output.extend_from_slice(b"$2\r\nPX\r\n");
            append_number(output, millis);
        }
        match self.condition {
            Condition::None => {}
            Condition::Missing => output.extend_from_slice(b"$2\r\nNX\r\n"),
            Condition::Live => output.extend_from_slice(b"$2\r\nXX\r\n"),
        }
    }

    fn for_the_driver(&self) -> Cmd {
        commands::set(self.key, self.value, self.ttl, self.condition).raw.for_the_driver()
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::RawCommand;
    use super::*;

    fn written(command: &impl Encode) -> Vec<u8> {
        let mut output = Vec::new();
        command.write(&mut output);
        output
    }

    fn all_written(commands: &(impl EncodeAll + ?Sized)) -> Vec<u8> {
        let mut output = Vec::new();
        commands.write(&mut output);
        output
    }

    #[test]
    fn reads_with_lives_are_the_same_in_place_and_in_room_of_their_own() {
        let long = "x".repeat(1234);
        let keys = ["", "k", "\0\r\n", long.as_str()];
        for count in 0..keys.len() {
            let keys = &keys[..count];
            let lives = keys.iter().map(|key| commands::time_left(key).raw);
            let gets = keys.iter().map(|key| commands::get(key).raw);
            let each: Vec<RawCommand> =
                gets.zip(lives.clone()).flat_map(|(get, life)| [get, life]).collect();
            let all: Vec<RawCommand> =
                [commands::get_many(keys.iter()).raw].into_iter().chain(lives).collect();
            same(&GetEachWithLife(keys), &each);
            same(&GetAllWithLives(keys.iter()), &all);
        }
    }

    fn same(here: &impl EncodeAll, there: &[RawCommand]) {
        assert_eq!(here.count(), there.len());
        assert_eq!(all_written(here), all_written(there));
        let packed = |commands: Vec<Cmd>| {
            commands.iter().flat_map(Cmd::get_packed_command).collect::<Vec<u8>>()
        };
        assert_eq!(packed(here.for_the_driver()), all_written(there));
    }

    #[test]
    fn a_command_is_the_same_in_place_and_in_room_of_its_own() {
        let long = "x".repeat(1234);
        for key in ["", "k", "0123456789", long.as_str()] {
            assert_eq!(written(&get(key).raw), written(&commands::get(key).raw));
            for ttl in [Ttl::Never, Ttl::Millis(1), Ttl::Millis(u64::MAX)] {
                for condition in [Condition::None, Condition::Missing, Condition::Live] {
                    for value in [&b""[..], b"\r\n\xFF", long.as_bytes()] {
                        let (here, there) = (
                            set(key, value, ttl, condition),
                            commands::set(key, value, ttl, condition),
                        );
                        assert_eq!(written(&here.raw), written(&there.raw));
                        assert_eq!(here.repeatable, there.repeatable);
                    }
                }
            }
        }
    }
}
