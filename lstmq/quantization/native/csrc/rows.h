/* The same for each of some rows, written out: what is kept for a row is then a variable, and stays in a register. */
#define ONE(DO) DO(0)
#define TWO(DO) ONE(DO) DO(1)
#define THREE(DO) TWO(DO) DO(2)
#define FOUR(DO) THREE(DO) DO(3)
#define FIVE(DO) FOUR(DO) DO(4)
#define SIX(DO) FIVE(DO) DO(5)
