/* Repeat DO for rows 0, 1, ... of activations, or for vectors 0, 1, ... of weights. Every sum of a tile is a variable,
 * because compilers keep some elements of arrays in memory.
 */
#define ROWS_1(DO, ...) DO(0, __VA_ARGS__)
#define ROWS_2(DO, ...) ROWS_1(DO, __VA_ARGS__) DO(1, __VA_ARGS__)
#define ROWS_3(DO, ...) ROWS_2(DO, __VA_ARGS__) DO(2, __VA_ARGS__)
#define ROWS_4(DO, ...) ROWS_3(DO, __VA_ARGS__) DO(3, __VA_ARGS__)
#define ROWS_5(DO, ...) ROWS_4(DO, __VA_ARGS__) DO(4, __VA_ARGS__)
#define ROWS_6(DO, ...) ROWS_5(DO, __VA_ARGS__) DO(5, __VA_ARGS__)
#define VECTORS_2(DO, ...) DO(0, __VA_ARGS__) DO(1, __VA_ARGS__)
#define VECTORS_4(DO, ...) VECTORS_2(DO, __VA_ARGS__) DO(2, __VA_ARGS__) DO(3, __VA_ARGS__)
#define VECTORS_8(DO, ...) \
    VECTORS_4(DO, __VA_ARGS__) DO(4, __VA_ARGS__) DO(5, __VA_ARGS__) DO(6, __VA_ARGS__) DO(7, __VA_ARGS__)
#define VECTORS_16(DO, ...)                                                                                  \
    VECTORS_8(DO, __VA_ARGS__) DO(8, __VA_ARGS__) DO(9, __VA_ARGS__) DO(10, __VA_ARGS__) DO(11, __VA_ARGS__) \
    DO(12, __VA_ARGS__) DO(13, __VA_ARGS__) DO(14, __VA_ARGS__) DO(15, __VA_ARGS__)
