//! Which loaders are refused because they may fail.

/// Every type except `Result`: the values that [`get_or_set`](crate::AsyncCacheWrapper::get_or_set)
/// and similar methods accept.
///
/// If a loader returned a `Result`, its error would be stored, and served as a value until it
/// expires. The compiler refuses it, with "type annotations needed" and a note that names this
/// trait. `By` is inferred; generic code needs no bound.
///
/// | for | call |
/// |---|---|
/// | a loader that may fail | the verb in `try_`, such as [`try_get_or_set_async`](crate::AsyncCacheWrapper::try_get_or_set_async) |
/// | a `Result` that is to be stored, error or not | [`get_or_set_loaded_async`](crate::AsyncCacheWrapper::get_or_set_loaded_async) with [`Loaded::new`](crate::Loaded::new) |
///
/// ```compile_fail,E0283
/// # async fn f() -> larder::Result<()> {
/// # let cache = larder::AsyncCacheWrapper::new("memory")?;
/// cache.get_or_set_async("u", async { Err::<u32, String>("no database".into()) }).await?;
/// # Ok(()) }
/// ```
///
/// A loader of several keys must not fail either: a `Result` of one pair is an iterator, and its
/// error would be a key that the loader did not give.
///
/// ```compile_fail,E0283
/// # async fn f() -> larder::Result<()> {
/// # let cache = larder::AsyncCacheWrapper::new("memory")?;
/// let load = |_: Vec<String>| async { Err::<(String, u32), &str>("no database") };
/// cache.get_or_set_many_async(["u"], load).await?;
/// # Ok(()) }
/// ```
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
/// use larder::Loaded;
///
/// let cache = larder::AsyncCacheWrapper::new("memory")?;
/// let loader = async { Err::<u32, &str>("no database") };
/// assert!(cache.try_get_or_set_async("u", loader).await.is_err());
/// assert!(!cache.contains("u").await?);
///
/// let error: Result<u32, String> = Err("no such user".to_owned());
/// let stored = cache.get_or_set_loaded_async("u", async { Loaded::new(error) }).await?;
/// assert_eq!(stored, Err("no such user".to_owned()));
/// # Ok(()) }
/// ```
pub trait NotAResult<By> {}

/// [`NotAResult`] is implemented for every type with this parameter,
#[derive(Debug)]
pub enum Value {}

/// and for `Result` also with this parameter, so that the compiler cannot choose between the two.
#[derive(Debug)]
pub enum UseTryGetOrSetAsync {}

impl<T> NotAResult<Value> for T {}
impl<T, E> NotAResult<UseTryGetOrSetAsync> for Result<T, E> {}
