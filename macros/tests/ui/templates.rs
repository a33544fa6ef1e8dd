#[larder::cached(key = "user:{id")]
async fn unclosed(id: u64) -> u64 {
    id
}

#[larder::cached(key = "user:{tenant}{id}")]
async fn nothing_between(tenant: u64, id: u64) -> u64 {
    tenant + id
}

#[larder::cached(key = "user:{id:?}")]
async fn format(id: u64) -> u64 {
    id
}

#[larder::cached(key = "{tenant}%{id}")]
async fn percent(tenant: u64, id: u64) -> u64 {
    tenant + id
}

fn main() {}
