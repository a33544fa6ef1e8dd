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

trait Kind {
    const NAME: &'static str;
}

#[larder::cached(key = "{T::NAME}:{id}")]
async fn path<T: Kind>(id: u64) -> u64 {
    id
}

#[larder::cached(key = "all", tags("{T::NAME}"))]
async fn path_in_a_tag<T: Kind>() -> u64 {
    1
}

fn main() {}
