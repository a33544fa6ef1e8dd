mod config {
    pub static id: u64 = 7;
}

struct Config {
    id: u64,
}

impl Config {
    #[larder::cached(key = format!("field:{}", self.id))]
    fn a_field(&self, id: u64) -> u64 {
        id
    }
}

#[larder::cached(key = config::id)]
async fn in_a_module(id: u64) -> u64 {
    id
}

#[larder::cached(key = "all", cache = config.cache(), skip(config))]
async fn a_method(config: Config, cache: u64) -> u64 {
    config.id + cache
}

fn main() {}
