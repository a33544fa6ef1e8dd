//! The options of a blocking cache with tags.

use super::CacheWrapper;
use crate::codec::Codec;
use crate::expiry::Expiry;
use crate::options::each_option;
use crate::wrapper::Tagged;
use crate::wrapper::tags::tagged_options;

macro_rules! mirror {
    ($($option:ident($($value:ident: $type:ty)?))*) => {$(
        #[doc = concat!("See [`View::", stringify!($option), "`](crate::View::", stringify!($option), ").")]
        pub fn $option(self $(, $value: $type)?) -> Self {
            Self::new(CacheWrapper::$option(&self $(, $value)?).into_cache())
        }
    )*};
}

tagged_options!(CacheWrapper);

impl Tagged<CacheWrapper> {
    each_option!(mirror);
}
