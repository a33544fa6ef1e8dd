#[larder::cached(key = "user:{id}")]
fn user(id: u64, #[cfg(unix)] _shell: &str) -> u64 {
    id
}

fn main() {}
