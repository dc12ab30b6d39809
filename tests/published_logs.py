"""Small logs in each published format, written by the tests that read them."""

from __future__ import annotations

import gzip
from pathlib import Path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_kuairand(folder: Path) -> Path:
    """Two users; user 7's rows are out of order and two of them tie in time."""
    write(
        folder / "log_standard_4_22_to_5_08.csv.gz",
        "user_id,video_id,time_ms,author_id,tab,play_time_ms,is_click,long_view,is_like,is_hate\n"
        "7,2,3000,900,1,0,0,0,0,0\n"
        "7,0,1000,900,0,9000,1,1,1,0\n"
        "7,1,1000,901,1,1000,1,0,0,0\n"
        "8,2,500,900,4,0,0,0,0,1\n",
    )
    write(
        folder / "user_features_pure.csv",
        "user_id,user_active_degree,is_video_author,follow_user_num,follow_user_num_range,onehot_feat0,onehot_feat4\n"
        '7,full_active,1,600,500+,1,3.0\n9,low_active,0,5,"(0,10]",0,\n',
    )
    write(
        folder / "video_features_basic_pure.csv",
        "video_id,author_id,video_type,upload_type,video_duration,music_type,tag\n"
        '0,900,NORMAL,Web,9000.0,9.0,"39,3"\n1,901,AD,Web,,,\n2,900,NORMAL,Kmovie,70000.0,4.0,3\n3,902,NORMAL,Web,500,9.0,3\n',
    )
    return folder


def write_entree(folder: Path) -> Path:
    """Session 0 ends on restaurant 2; session 1's end is unknown; session 2 ends where it began."""
    write(
        folder / "steps_1996Q3_1996Q4.csv.gz",
        "quarter,session_id,user_id,session_start,entry_point,step,item_shown,user_op,next_item_shown,is_last\n"
        "1996-Q3,0,5,1970-01-02 00:00:00,0,0,0,L,1,0\n"
        "1996-Q3,0,5,1970-01-02 00:00:00,0,1,1,N,2,1\n"
        "1996-Q3,1,6,1970-01-02 00:00:09,10C,0,2,M,,1\n"
        "1996-Q3,2,5,1970-01-02 00:00:10,10B,0,1,L,1,1\n",
    )
    write(
        folder / "items_chicago.csv",
        "item_id,name,feature_ids\n0,Anna's,075 005\n1,Bo's,005\n2,Cy's,075 005 249 249\n3,Di's,\n",
    )
    write(folder / "features.txt", "005\tAmerican\n075\tExcellent Food\n")
    return folder


def write_open_bandit(folder: Path) -> Path:
    write(
        folder / "men.csv",
        ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user-item_affinity_0,"
        "user-item_affinity_1\n"
        "0,1970-01-01 00:00:01.000002+00:00,1,3,0,0.25,aa,cc,0.0,0.0\n"
        "1,1970-01-01 00:00:02+00:00,0,1,1,0.5,bb,cc,0.0,1.0\n"
        "2,1970-01-01 00:00:03+00:00,0,2,0,0.125,aa,dd,0.0,0.0\n",
    )
    write(folder / "item_context.csv", ",item_id,item_feature_0,item_feature_1\n0,0,-0.5,aa\n1,1,0.75,bb\n2,2,0.0,aa\n")
    return folder


def write_movielens(folder: Path) -> Path:
    """User 1's ratings are out of order; two of them tie in time."""
    write(
        folder / "ratings.csv",
        "userId,movieId,rating,timestamp\n1,30,4.0,900\n1,10,3.5,1000\n1,20,5.0,900\n2,10,0.5,50\n",
    )
    write(
        folder / "movies.csv",
        "movieId,title,genres\n10,Un (1990),Comedy|Drama\n20,Deux (1991),(no genres listed)\n30,Trois (1992),Drama\n",
    )
    return folder


def write_table(folder: Path) -> Path:
    return write(
        folder / "log.csv",
        "session_id,step,position,item_id,click,propensity,timestamp,user_id,terminated,context_tab,user_age,mood\n"
        "s1,0,0,a,0,0.5,10,u,True,home,30,1.5\n"
        "s1,0,1,b,1,0.25,10,u,True,home,30,0\n"
        "s1,1,0,c,0,0.5,20,u,True,feed,30,2\n"
        "s0,0,0,c,0,0.75,5,v,False,home,41,0\n",
    )


WRITERS = {
    "table": write_table,
    "kuairand": write_kuairand,
    "entree": write_entree,
    "open-bandit": write_open_bandit,
    "movielens": write_movielens,
}
