//! The keys of a cache, for code without `.await`.

use super::wait::wait;
use crate::error::Result;
use crate::wrapper::KeyStream;

/// [`KeyStream`] for code without `.await`: an iterator that waits for each page of keys.
///
/// ```
/// let cache = larder::CacheWrapper::new("memory")?;
/// cache.set_many([("user:7", "Ada"), ("user:8", "Grace"), ("other", "")])?;
/// let mut users = cache.keys("user:").collect::<larder::Result<Vec<_>>>()?;
/// users.sort();
/// assert_eq!(users, ["user:7", "user:8"]);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is used"]
pub struct KeyIter(pub(super) KeyStream);

impl Iterator for KeyIter {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        wait(self.0.next())
    }
}
