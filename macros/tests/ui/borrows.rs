#[larder::cached(key = "name", skip(name))]
async fn length(name: Option<&str>) -> usize {
    name.map_or(0, str::len)
}

#[larder::cached(key = "name:{name}")]
async fn unnamed(name: impl std::fmt::Display + Send) -> String {
    name.to_string()
}

fn main() {}
