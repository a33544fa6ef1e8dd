struct Users;

trait Count {
    fn count(&self, id: u64) -> impl Future<Output = u64> + Send;
}

impl Count for Users {
    #[larder::cached(key = "count:{id}", skip(self), here)]
    #[tracing::instrument(skip(self))]
    async fn count(&self, id: u64) -> u64 {
        id
    }
}

fn main() {}
