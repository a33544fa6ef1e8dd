#[derive(Debug)]
struct AppError;

impl std::fmt::Display for AppError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an error")
    }
}

impl std::error::Error for AppError {}

#[larder::cached(key = "user:{id}")]
fn by_default(id: u64) -> Result<u64, AppError> {
    Ok(id)
}

#[larder::cached(key = "user:{id}", errors = wrap)]
fn wraps(id: u64) -> Result<u64, AppError> {
    Ok(id)
}

#[larder::cached(key = "user:{id}", errors = wrap)]
async fn no_result(id: u64) -> u64 {
    id
}

fn main() {}
