//! Which loaders are refused because they may fail.

/// Every type but `Result`: what [`get_or_set`](crate::AsyncCacheWrapper::get_or_set) and its kin
/// take for a value.
///
/// A loader that returns a `Result` would have its error stored and served as a value until it
/// expires. The compiler refuses it, with "type annotations needed" and a note that names this
/// trait. `By` is inferred; generic code needs no bound.
///
/// | for | call |
/// |---|---|
/// | a loader that may fail | [`try_get_or_set_async`](crate::AsyncCacheWrapper::try_get_or_set_async) |
/// | a `Result` that is to be stored, error or not | [`get_or_set_loaded_async`](crate::AsyncCacheWrapper::get_or_set_loaded_async) with [`Loaded::new`](crate::Loaded::new) |
///
/// ```compile_fail,E0283
/// # async fn f() -> larder::Result<()> {
/// # let cache = larder::AsyncCacheWrapper::new("memory")?;
/// cache.get_or_set_async("u", async { Err::<u32, String>("the database is away".to_owned()) }).await?;
/// # Ok(()) }
/// ```
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// use larder::Loaded;
///
/// let cache = larder::AsyncCacheWrapper::new("memory")?;
/// let failed = cache.try_get_or_set_async("u", async { Err::<u32, &str>("the database is away") }).await;
/// assert!(failed.is_err() && !cache.contains("u").await?);
///
/// let on_purpose = cache.get_or_set_loaded_async("u", async { Loaded::new(Err::<u32, String>("no".into())) }).await?;
/// assert_eq!(on_purpose, Err("no".to_owned()));
/// # Ok(()) }
/// ```
pub trait NotAResult<By> {}

/// [`NotAResult`] holds for every type in this way,
#[derive(Debug)]
pub enum Value {}

/// and for a `Result` also in this one, so that the compiler cannot choose between the two.
#[derive(Debug)]
pub enum UseTryGetOrSetAsync {}

impl<T> NotAResult<Value> for T {}
impl<T, E> NotAResult<UseTryGetOrSetAsync> for Result<T, E> {}
