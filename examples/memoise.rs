//! Eleven functions under the attribute macros: `cargo run --example memoise --features macros`.
//!
//! Nothing has to be installed. The program prints what ran and what was a hit, and stops if a promise does not hold.

use larder::{AsyncCacheWrapper, async_trait, cached, evicts, puts};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where users come from. It counts its queries.
#[derive(Clone, Default)]
struct Db(Arc<AtomicU32>);

impl Db {
    fn query(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn queries(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum AppError {
    NotFound,
    Cache(larder::ErrorKind),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for AppError {}

impl From<larder::Error> for AppError {
    fn from(error: larder::Error) -> Self {
        Self::Cache(error.kind())
    }
}

// 1. What is borrowed is cloned on a miss; `db` does not decide about the entry.
#[cached(key = "user:{id}", ttl = "5m", skip(db))]
async fn get_user(db: &Db, id: u64) -> Result<String, AppError> {
    db.query();
    if id == 0 { Err(AppError::NotFound) } else { Ok(format!("user {id}")) }
}

// 2. A blocking function.
#[cached(key = "square:{of}", skip(db))]
fn square(db: &Db, of: u64) -> u64 {
    db.query();
    of * of
}

// 3. No key: the module, the function, and the arguments as JSON.
#[cached(skip(db))]
async fn count(db: &Db, ids: &[u64], all: bool) -> usize {
    db.query();
    ids.len() + usize::from(all)
}

// 4. Each number once.
#[cached(key = "fib:{n}", skip(db))]
async fn fib(db: &Db, n: u64) -> u64 {
    db.query();
    if n < 2 { n } else { fib(db, n - 1).await + fib(db, n - 2).await }
}

// 5. The caller carries the load: it may borrow mutably, and what it borrows needs no `Clone`.
#[cached(key = "line:{name}", skip(log), here)]
async fn write_line(log: &mut Vec<String>, name: &str) -> usize {
    log.push(name.to_owned());
    log.len()
}

// 6. Only even numbers are stored.
#[cached(key = "even:{n}", skip(db), only_if = |n| n % 2 == 0)]
async fn even(db: &Db, n: u64) -> u64 {
    db.query();
    n
}

// 7. A success removes what others have cached.
#[evicts(get_user(id), "users:all")]
async fn rename(id: u64, name: &str) -> Result<(), AppError> {
    if id == 0 || name.is_empty() { Err(AppError::NotFound) } else { Ok(()) }
}

// 8. What a function made is stored.
#[puts("user:{id}", ttl = "5m")]
async fn create(id: u64, name: &str) -> Result<String, AppError> {
    Ok(name.to_owned())
}

// 9. Pages of a user go with the user's tag.
#[cached(key = "page:{number}", skip(db, user), tags("pages", "user:{user}"))]
async fn page(db: &Db, user: u64, number: u64) -> String {
    db.query();
    format!("page {number} of user {user}")
}

#[evicts(tags("user:{user}"))]
async fn redraw(user: u64) -> Result<u64, AppError> {
    Ok(user)
}

#[derive(Clone)]
struct Shop {
    tenant: String,
    cache: AsyncCacheWrapper,
    db: Db,
}

impl Shop {
    // 10. A method, with a cache of its own.
    #[cached(key = "price:{self.tenant}:{article}", cache = self.cache)]
    async fn price(&self, article: &str) -> u64 {
        self.db.query();
        article.len() as u64
    }
}

#[async_trait]
trait Stock {
    async fn stock(&self, article: &str) -> Result<u64, AppError>;
}

#[async_trait]
impl Stock for Shop {
    // 11. A method of a trait.
    #[cached(key = "stock:{self.tenant}:{article}", cache = self.cache)]
    async fn stock(&self, article: &str) -> Result<u64, AppError> {
        self.db.query();
        Ok(article.len() as u64 * 10)
    }
}

/// Prints what a call gave and whether it ran, and holds it to that.
fn report<T: fmt::Debug>(db: &Db, before: u32, expected: u32, what: &str, value: T) {
    let ran = db.queries() - before;
    let how = match ran {
        0 => "did not run".to_owned(),
        1 => "ran".to_owned(),
        more => format!("ran {more} times"),
    };
    println!("   {what:<42} {how:<13} {value:?}");
    assert_eq!(ran, expected, "{what}");
}

/// Makes a call, and says whether it ran.
macro_rules! call {
    ($db:expr, $expected:expr, $call:expr) => {{
        let before = $db.queries();
        let value = $call;
        report(&$db, before, $expected, stringify!($call), &value);
        value
    }};
}

#[tokio::main]
async fn main() -> larder::Result<()> {
    let db = Db::default();
    functions(&db).await?;
    writes(&db).await?;
    tags(&db).await;
    methods(&db).await?;
    let calls = (0..1_000).map(|_| {
        let db = db.clone();
        tokio::spawn(async move { get_user(&db, 99).await })
    });
    let before = db.queries();
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("no panic"), Ok("user 99".to_owned()));
    }
    println!("\nA thousand calls at once");
    report(&db, before, 1, "get_user(&db, 99).await, 1,000 times", "user 99");
    Ok(())
}

async fn functions(db: &Db) -> larder::Result<()> {
    println!("Functions");
    call!(db, 1, get_user(db, 7).await).expect("a user");
    call!(db, 0, get_user(db, 7).await).expect("a user");
    // An error is the function's own, and is not stored.
    assert_eq!(call!(db, 1, get_user(db, 0).await), Err(AppError::NotFound));
    assert_eq!(call!(db, 1, get_user(db, 0).await), Err(AppError::NotFound));
    call!(db, 1, square(db, 12));
    call!(db, 0, square(db, 12));
    call!(db, 1, count(db, &[1, 2], true).await);
    call!(db, 0, count(db, &[1, 2], true).await);
    println!("   its key: {}", count::key(&[1, 2], true));
    assert_eq!(call!(db, 21, fib(db, 20).await), 6_765);
    let mut log = Vec::new();
    assert_eq!((write_line(&mut log, "a").await, write_line(&mut log, "a").await), (1, 1));
    call!(db, 1, even(db, 3).await);
    call!(db, 1, even(db, 3).await);
    call!(db, 1, even(db, 4).await);
    call!(db, 0, even(db, 4).await);
    Ok(())
}

async fn writes(db: &Db) -> larder::Result<()> {
    println!("\nWrites, and what stands beside a function");
    rename(7, "Ada").await.expect("renamed");
    assert_eq!(call!(db, 0, get_user::peek(7).await)?, None);
    call!(db, 1, get_user(db, 7).await).expect("a user");
    create(7, "Grace").await.expect("created");
    assert_eq!(call!(db, 0, get_user(db, 7).await).expect("a user"), "Grace");
    assert_eq!(call!(db, 1, get_user::refresh(db, 7).await).expect("a user"), "user 7");
    call!(db, 1, get_user::uncached(db, 7).await).expect("a user");
    get_user::put(7, "Lin".to_owned()).await?;
    assert_eq!(call!(db, 0, get_user(db, 7).await).expect("a user"), "Lin");
    assert!(call!(db, 0, get_user::invalidate(7).await)?);
    Ok(())
}

async fn tags(db: &Db) {
    println!("\nTags");
    call!(db, 1, page(db, 7, 1).await);
    call!(db, 1, page(db, 7, 2).await);
    call!(db, 1, page(db, 8, 3).await);
    redraw(7).await.expect("redrawn");
    call!(db, 1, page(db, 7, 1).await);
    call!(db, 1, page(db, 7, 2).await);
    call!(db, 0, page(db, 8, 3).await);
}

async fn methods(db: &Db) -> larder::Result<()> {
    println!("\nMethods");
    let cache = AsyncCacheWrapper::new("memory")?;
    let shop = Shop { tenant: "a:b".to_owned(), cache, db: db.clone() };
    call!(db, 1, shop.price("pen").await);
    call!(db, 0, shop.price("pen").await);
    println!("   its key: {}", shop.price_key("pen"));
    assert_eq!(shop.price_key("pen"), "price:a%3Ab:pen");
    assert!(shop.price_invalidate("pen").await?);
    call!(db, 1, shop.price("pen").await);
    call!(db, 1, shop.stock("pen").await).expect("a number");
    call!(db, 0, shop.stock("pen").await).expect("a number");
    Ok(())
}
