//! A buffer for each thread that values are encoded into, so that a batch of a thousand small
//! values allocates what it keeps and no more.

use std::cell::Cell;

/// A buffer that has grown beyond this is freed after its use, in bytes.
const MOST: usize = 64 << 10;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` with an empty buffer. A `Serialize` that encodes another value meanwhile finds a
/// buffer of its own: the thread's is taken out for as long as it is used.
pub(crate) fn with<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // A thread that is ending has no buffer any more.
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let result = work(&mut buffer);
    if buffer.capacity() <= MOST {
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_empty_is_used_again_and_is_not_shared() {
        let at = with(|buffer| {
            buffer.extend([1; 100]);
            with(|inner| assert!(inner.is_empty()));
            assert_eq!(*buffer, [1; 100]);
            buffer.as_ptr() as usize
        });
        with(|buffer| {
            assert!(buffer.is_empty());
            assert_eq!(buffer.as_ptr() as usize, at);
            buffer.resize(MOST + 1, 0);
        });
        with(|buffer| assert!(buffer.capacity() <= MOST));
    }
}
