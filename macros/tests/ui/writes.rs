#[larder::evicts]
async fn nothing(id: u64) -> u64 {
    id
}

#[larder::evicts("user:{result.id}")]
async fn result(id: u64) -> u64 {
    id
}

#[larder::puts]
async fn no_key(id: u64) -> u64 {
    id
}

#[larder::puts("user:{id}", only_if = |_| true)]
async fn unknown(id: u64) -> u64 {
    id
}

#[larder::evicts("user:{uid}", ttl = "5m")]
async fn unknown_too(id: u64) -> u64 {
    id
}

fn main() {}
