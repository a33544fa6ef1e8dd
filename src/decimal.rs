//! Numbers as decimal digits, several times as fast as by `format_args!`.

/// As many digits has the largest number.
pub(crate) const MOST_DIGITS: usize = 20;

/// Writes the digits of a number to the end of `room`, which is long enough for them. Returns where
/// they begin.
#[inline]
pub(crate) fn write_digits(mut number: u64, room: &mut [u8]) -> usize {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return at;
        }
    }
}
