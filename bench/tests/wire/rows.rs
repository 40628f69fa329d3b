//! The list of rows: each a test with a name.

use crate::lab::{Family, Lab, Setting};

/// One row of the list, for one or both families.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) setting: Setting,
    pub(crate) families: &'static [Family],
    pub(crate) run: fn(&mut Lab, Family),
}

pub(crate) const BOTH: &[Family] = &[Family::V4, Family::V6];
pub(crate) const V4: &[Family] = &[Family::V4];
pub(crate) const V6: &[Family] = &[Family::V6];

/// `rows![Setting FAMILIES: function, …; …]`: a list of rows, each called as its function is.
macro_rules! rows {
    ($($setting:ident $families:ident: $($name:ident),+;)+) => {
        &[$($($crate::rows::Row {
            name: stringify!($name),
            setting: $crate::lab::Setting::$setting,
            families: $crate::rows::$families,
            run: $name,
        }),+),+]
    };
}
pub(crate) use rows;
