# style.gp - the look shared by all figures; copied to the head of every generated script.
set border 3 lc rgb '#8c8c8c' lw 1
set tics nomirror out scale 0.5 textcolor rgb '#404040'
set grid ytics lt 1 lc rgb '#e6e6e6' lw 0.8
set encoding utf8
unset key
