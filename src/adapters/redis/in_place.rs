//! The most frequent commands, encoded where they are sent from: in the output of the connection,
//! without room of their own.

use super::commands::{self, Command, Condition, Ttl, bytes, done};
use super::raw::{Encode, append_argument, append_count, append_number};
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
        output.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
        append_argument(output, self.0.as_bytes());
    }

    fn for_the_driver(&self) -> Cmd {
        commands::get(self.0).raw.for_the_driver()
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
    use super::*;

    fn written(command: &impl Encode) -> Vec<u8> {
        let mut output = Vec::new();
        command.write(&mut output);
        output
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
